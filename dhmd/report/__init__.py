"""The report: the results of a dataset as one page that works offline, as SVG files, and as CSV.

`job` is the DVC stage, `site` the page of all datasets (`dhmd report`). The stage reads the files
(`data`), draws the figures (`charts`, `model_charts`, `style`), and writes sentences and tables
(`headline`, `content`); `page` renders them with template.html. `utterances` describes single
utterances, also for the page of new predictions (`dhmd predict --html`). No module imports torch.
"""
