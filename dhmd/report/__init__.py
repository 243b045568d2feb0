"""The report: every result of a dataset as one page that works offline, as SVG files, and as CSV.

`job` is the DVC stage, `site` the page of all datasets (`dhmd report`). The stage reads files into
`data`, computes (`analysis`), draws (`charts`, `model_charts`, `style`), and writes sentences and
tables (`content`, `headline`); `page` renders them with template.html. No torch.
"""
