"""The page's style: no font, picture or script from anywhere, light and dark, and print."""

CSS = """
:root {
  color-scheme: light dark;
  --ink: #1f2328; --muted: #5d6670; --line: #d8dee4; --paper: #ffffff; --back: #f4f6f8;
  --accent: #b03a72; --good: #1a7f5a; --warn: #9a5b00; --warnback: #fff4de;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ed; --muted: #9aa4af; --line: #343b44; --paper: #171b21; --back: #0e1116;
    --accent: #e27aae; --good: #4cc38f; --warn: #e0a84e; --warnback: #2b2213;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 3.2rem; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.55 var(--font); }
main { max-width: 1080px; margin: 0 auto; padding: 1.2rem 1rem 4rem; }
h1 { font-size: 1.7rem; margin: .4rem 0 .3rem; }
h2 { font-size: 1.45rem; margin: 2.6rem 0 .2rem; }
h3 { font-size: 1.12rem; margin: 2rem 0 .4rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
h4 { font-size: .98rem; margin: 1.2rem 0 .3rem; }
p { margin: .35rem 0 .7rem; max-width: 78ch; }
a { color: var(--accent); }
.muted, figcaption { color: var(--muted); }
nav { position: sticky; top: 0; z-index: 2; background: var(--paper);
  border-bottom: 1px solid var(--line); }
nav div { max-width: 1080px; margin: 0 auto; padding: .45rem 1rem; display: flex; flex-wrap: wrap;
  gap: .1rem 1rem; }
nav a { text-decoration: none; font-size: .86rem; color: var(--muted); }
nav a:hover { color: var(--accent); }
nav strong { font-size: .86rem; }
.toc a { margin-right: .9rem; white-space: nowrap; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: .7rem;
  margin: 1rem 0; }
.tile { background: var(--paper); border: 1px solid var(--line); border-radius: 8px;
  padding: .55rem .8rem; }
.tile b { display: block; font-size: 1.12rem; font-weight: 650; white-space: nowrap; }
.tile span { color: var(--muted); font-size: .82rem; }
.tile.own { border-color: var(--accent); }
figure { margin: .9rem 0 1.2rem; background: var(--paper); border: 1px solid var(--line);
  border-radius: 8px; padding: .7rem .8rem .6rem; overflow-x: auto; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .86rem; line-height: 1.45; padding-top: .45rem; max-width: 100ch; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr));
  gap: 0 1rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .87rem; background: var(--paper); }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 600; border-bottom: 2px solid var(--line); white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.own td { background: color-mix(in srgb, var(--accent) 12%, transparent); font-weight: 600; }
caption { text-align: left; color: var(--muted); font-size: .86rem; padding-bottom: .3rem; }
details { margin: .4rem 0 1rem; }
summary { cursor: pointer; color: var(--muted); font-size: .9rem; }
code, .mono { font-family: var(--mono); font-size: .84em; }
.words { max-width: 46ch; }
.chip { display: inline-block; border: 1px solid var(--line); border-radius: 999px;
  padding: 0 .55em; margin: .08rem .2rem .08rem 0; white-space: nowrap; }
.chip small { color: var(--muted); }
.warn { background: var(--warnback); border-left: 3px solid var(--warn); padding: .5rem .8rem;
  max-width: none; }
.quote { white-space: pre-line; }
@media print {
  :root { --back: #fff; --paper: #fff; --ink: #111; --muted: #444; --line: #ccc; }
  nav { display: none; }
  main { max-width: none; padding: 0; }
  body { font-size: 11px; }
}
"""
