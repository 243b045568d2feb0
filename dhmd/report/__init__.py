"""The report: every result of a dataset as one page that works offline, as SVG files, and as CSV.

`job` is the DVC stage, `site` the page of all datasets (`dhmd report`). The stage reads files into
`data`, draws (`charts`, `model_charts`, `style`), and writes sentences and tables (`headline`,
`content`); `page` renders them with template.html. `utterances` is the view of single utterances,
which the page of new predictions (`dhmd predict --html`) has too. No torch.
"""
