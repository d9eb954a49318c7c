"""Style and script of the page in :mod:`.page`."""

from __future__ import annotations

_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

STYLE = """
:root { color-scheme: light; --ink: #22303f; --soft: #5a6b7d; --line: #dde3ea; --blue: #2f5fb3;
  --added: #1a8f4c; --changed: #c77700; --going: #c93545; }
* { box-sizing: border-box; }
body { margin: 0; font: 14px/1.5 FONT; color: var(--ink); background: #f6f8fa; }
header { padding: 16px 28px 12px; background: #fff; border-bottom: 1px solid var(--line);
  position: sticky; top: 0; z-index: 1; }
h1 { font-size: 19px; margin: 0 0 2px; } h2 { font-size: 15px; margin: 0; }
.facts { color: var(--soft); font-size: 13px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin-top: 8px; font-size: 12.5px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  border: 1px solid; margin-right: 6px; vertical-align: -1px; }
nav { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; margin-top: 12px; }
nav button, nav .idle { font: inherit; font-size: 12.5px; padding: 2px 10px; border-radius: 12px;
  border: 1px solid var(--line); background: #fff; color: var(--ink); }
nav button { cursor: pointer; } nav button:hover { border-color: var(--blue); }
nav button.on { background: var(--blue); border-color: var(--blue); color: #fff; }
nav .idle { color: #9aa7b5; border-style: dashed; } nav em { font-style: normal; font-weight: 600; }
nav small { opacity: .7; } #back, #forth { font-size: 17px; line-height: 20px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; }
main { display: flex; gap: 20px; padding: 20px 28px; align-items: flex-start; }
.step { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 14px 18px;
  flex: 1 1 auto; min-width: 0; }
.js .step { display: none; } .js .step.on { display: block; }
aside { flex: 0 0 400px; position: sticky; top: 190px; background: #fff; padding: 14px 18px;
  border: 1px solid var(--line); border-radius: 8px; min-height: 120px; max-height: 74vh;
  overflow: auto; }
html:not(.js) aside { display: none; }
aside pre.node { font: 12px/1.5 MONO; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.hint { color: var(--soft); margin: 0; }
#about b { display: block; font: 600 12px/1.5 MONO; margin: 12px 0 4px; overflow-wrap: anywhere; }
#about .code pre { font: 12px/1.55 MONO; margin: 0; background: #f6f8fa; border-radius: 6px;
  padding: 6px 0; overflow: auto; }
#about .code span { display: block; padding: 0 10px; white-space: pre; }
#about .code i { display: inline-block; width: 3.4em; color: #9aa7b5; font-style: normal;
  user-select: none; }
#about .code .here { background: #fff1c9; }
.drawing { overflow: auto; max-height: 78vh; margin: 10px 0; text-align: center; }
svg g { cursor: pointer; } svg g:hover rect { stroke-width: 2.4; }
svg g.kept rect { stroke-width: 3; }
svg .added rect { stroke: var(--added); stroke-width: 2.6; }
svg .changed rect { stroke: var(--changed); stroke-width: 2.6; }
svg .going rect { stroke: var(--going); stroke-width: 2.2; stroke-dasharray: 5 3; }
b.added { color: var(--added); } b.changed { color: var(--changed); }
b.going, .removed summary { color: var(--going); }
pre { overflow: auto; max-height: 60vh; font: 12px/1.5 MONO; margin: 8px 0 0; }
summary { cursor: pointer; color: var(--blue); font-size: 13px; }
@media (max-width: 900px) { main { flex-direction: column; } aside { flex-basis: auto;
  position: static; width: 100%; } .step { width: 100%; } }
""".replace("FONT", _FONT).replace("MONO", _MONO)

# Everything it shows is text or a copy of elements that the page has already.
SCRIPT = """
'use strict';
(function () {
  const all = (query, root) => Array.from((root || document).querySelectorAll(query));
  const steps = all('.step'), chips = all('[data-go]'), slider = document.getElementById('slider');
  const about = document.getElementById('about');
  let at = 0, kept = null;
  document.documentElement.classList.add('js');

  function go(to) {
    at = Math.min(Math.max(to, 0), steps.length - 1);
    steps.forEach((step, i) => step.classList.toggle('on', i === at));
    chips.forEach((chip, i) => chip.classList.toggle('on', i === at));
    if (slider) slider.value = at;
  }

  function tell(node) {
    const box = document.createElement('div'), line = document.createElement('pre');
    line.className = 'node';
    line.textContent = node.querySelector('title').textContent;
    box.append(line);
    const source = node.dataset.source && document.getElementById('s' + node.dataset.source);
    if (source && source.firstChild) {
      const code = source.cloneNode(true);
      code.removeAttribute('id');
      code.className = 'code';
      box.append(code);
    }
    about.replaceChildren(box);
  }

  all('svg g').forEach((node) => {
    node.addEventListener('mouseenter', () => { if (!kept) tell(node); });
    node.addEventListener('click', () => {
      const again = kept === node;
      if (kept) kept.classList.remove('kept');
      kept = again ? null : node;
      if (kept) kept.classList.add('kept');
      tell(node);
    });
  });
  chips.forEach((chip, i) => chip.addEventListener('click', () => go(i)));
  if (slider) {
    slider.addEventListener('input', () => go(Number(slider.value)));
    document.getElementById('back').addEventListener('click', () => go(at - 1));
    document.getElementById('forth').addEventListener('click', () => go(at + 1));
    document.addEventListener('keydown', (event) => {
      if (event.target === slider) return;
      if (event.key === 'ArrowLeft') go(at - 1);
      if (event.key === 'ArrowRight') go(at + 1);
    });
  }
  go(0);
})();
"""
