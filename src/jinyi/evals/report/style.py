"""How a report looks: the style sheet inside its HTML file."""

from __future__ import annotations

from typing import Final

from jinyi.evals.report.drawing import FONTS

CSS: Final = f"""
:root {{ --page: #fff; --ink: #1d2125; --faint: #656d76; --line: #d8dde3; --band: #f5f7f9; --best: #0b5cad; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #15181c; --ink: #e2e6ea; --faint: #949ea8; --line: #343a41; --band: #1d2126; --best: #6cb6ff; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 {FONTS}; }}
main {{ max-width: 76rem; margin: 0 auto; padding: 1.2rem 1rem 4rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin: .4rem 0; }}
h2 {{ font-size: 1.15rem; margin: 2rem 0 .5rem; }}
h3 {{ font-size: .95rem; margin: 0 0 .4rem; }}
.origin, .note, figcaption, small {{ color: var(--faint); font-size: .82rem; }}
.note {{ margin: .3rem 0; }}
pre {{ background: var(--band); border-radius: 6px; padding: .6rem .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .82rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; min-width: 50%; }}
th, td {{ padding: .36rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }}
th {{ vertical-align: bottom; font-weight: 600; white-space: nowrap; }}
td:first-child {{ font-weight: 500; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
th small, td small {{ display: block; font-weight: 400; }}
strong {{ color: var(--best); }}
.quoted td {{ color: var(--faint); font-style: italic; }}
tbody tr:hover {{ background: var(--band); }}
.notes {{ padding-left: 1.1rem; font-size: .9rem; }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.4rem; }}
figure {{ margin: 0; min-width: 0; }}
svg {{ max-width: 100%; height: auto; }}
.examples {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }}
article {{ border-left: 3px solid var(--line); padding: .1rem .9rem; min-width: 0; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 0 .7rem; margin: 0; overflow-wrap: anywhere; }}
dt {{ color: var(--faint); }}
dd {{ margin: 0; }}
article p {{ margin: .2rem 0; font-size: .9rem; }}
details {{ margin-top: 2.5rem; }}
summary {{ cursor: pointer; font-weight: 600; }}
details td {{ overflow-wrap: anywhere; }}
@media (max-width: 40rem) {{ th, td {{ padding: .3rem .45rem; }} table {{ font-size: .82rem; }} }}
@media print {{ details {{ display: none; }} }}
"""
