"""The page's style sheet."""

SANS = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

STYLE = f"""
:root {{ color-scheme: light dark;
  --page: #f5f7f9; --card: #ffffff; --edge: #dde3ea; --ink: #1e2a36; --soft: #5a6b7d;
  --blue: #2f5fb3; --orange: #b85c00; --green: #23763a; --red: #b3261e; --wash: 47 95 179; }}
@media (prefers-color-scheme: dark) {{ :root {{
  --page: #12171d; --card: #1a2129; --edge: #303b47; --ink: #e3e9ef; --soft: #9aa9b8;
  --blue: #86aef5; --orange: #f0a45d; --green: #74c98a; --red: #ff8a80; --wash: 134 174 245; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; font: 15px/1.55 {SANS}; color: var(--ink); background: var(--page); }}
main {{ max-width: 1120px; margin: 0 auto; padding: 32px 20px 60px; }}
h1 {{ font-size: 28px; line-height: 1.2; margin: 0 0 6px; }}
h2 {{ font-size: 19px; margin: 0 0 8px; }}
h3 {{ font-size: 14px; margin: 20px 0 8px; color: var(--soft); font-weight: 600; }}
p {{ margin: 0 0 12px; max-width: 76ch; }}
.soft, footer {{ color: var(--soft); }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px;
  margin: 20px 0; }}
.tile, section {{ background: var(--card); border: 1px solid var(--edge); border-radius: 10px; }}
.tile {{ padding: 12px 16px; }}
.tile b {{ display: block; font-size: 24px; line-height: 1.25; }}
.tile span {{ color: var(--soft); font-size: 13px; }}
section {{ padding: 20px 24px; margin: 0 0 16px; }}
.row {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(380px, 100%), 1fr));
  gap: 12px 28px; align-items: start; }}
.row > * {{ min-width: 0; }}
.chart {{ width: 100%; height: auto; }}
.chart .grid {{ stroke: var(--edge); fill: none; }}
.chart .line {{ fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }}
.chart circle {{ fill: currentColor; }}
.chart .train {{ color: var(--orange); }} .chart .test {{ color: var(--blue); }}
.chart .tick {{ fill: var(--soft); font-size: 11.5px; text-anchor: end; }}
.chart .mid {{ text-anchor: middle; }}
.chart .key {{ fill: var(--ink); font-size: 12.5px; }}
.digits {{ display: flex; flex-wrap: wrap; gap: 12px; }}
figure {{ margin: 0; width: 76px; text-align: center; font-size: 12.5px; line-height: 1.35; }}
.digit {{ display: block; width: 76px; height: 76px; padding: 4px; border-radius: 6px;
  border: 1px solid var(--edge); margin-bottom: 4px; }}
figure.wrong .digit {{ border-color: var(--red); }} figure.wrong b {{ color: var(--red); }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 4px 14px 4px 0; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
th {{ font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--edge); }}
td.none {{ color: var(--soft); }} .bad {{ color: var(--red); }}
.confusion td, .confusion th {{ padding: 0; width: 34px; height: 30px; text-align: center;
  border: 1px solid var(--card); }}
.confusion td.miss {{ color: var(--red); font-weight: 700; }}
.bar {{ width: 100%; }} .bar td {{ padding: 3px 12px 3px 0; }}
.bar td:nth-child(2) {{ width: 60%; text-align: left; }}
.bar i {{ display: block; height: 14px; min-width: 2px; border-radius: 3px;
  background: var(--soft); }}
.bar i.ours {{ background: var(--blue); }}
.graph {{ overflow: auto; border: 1px solid var(--edge); border-radius: 8px;
  text-align: center; padding: 8px; }}
.graph svg {{ max-width: 100%; height: auto; }}
pre {{ font: 12px/1.5 {MONO}; overflow-x: auto; padding: 12px 14px; margin: 8px 0 0;
  background: var(--page); border: 1px solid var(--edge); border-radius: 8px; }}
code {{ font: 13px {MONO}; }}
details {{ margin-top: 10px; }} summary {{ cursor: pointer; color: var(--blue); }}
footer {{ font-size: 13px; margin-top: 20px; }}
"""
