"""Every result of a dataset as a page that needs no network, as pictures and as data for plots.

    reports/<dataset>/index.html   the page, pictures inside
    reports/<dataset>/pictures/    the same pictures, an SVG file each
    reports/<dataset>/plots/       what `dvc plots` draws, a CSV file each
    reports/index.html             `dhmd report`: all datasets, with provenance

`job` writes the first three from a dataset's cache, models and metrics, the same bytes for the same
input; `site` puts datasets together. No torch. Test labels come from `metrics/<dataset>/`.
"""
