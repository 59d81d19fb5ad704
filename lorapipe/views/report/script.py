"""The page's one script: tables that sort, and numbers at the pointer. Without it all is there to read."""

from __future__ import annotations

__all__ = ["SCRIPT"]

SCRIPT = """
'use strict';
for (const table of document.querySelectorAll('table')) {
  const body = table.tBodies[0];
  if (body.rows.length < 3) continue;
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    const button = document.createElement('button');
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const up = head.getAttribute('aria-sort') === (head.className === 'n' ? 'descending' : 'ascending');
      const sign = (head.className === 'n') === up ? 1 : -1;
      for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      const value = row => {
        const cell = row.cells[at];
        return 'v' in cell.dataset ? Number(cell.dataset.v) : cell.className === 'n' ? NaN : cell.textContent;
      };
      const less = (a, b) => typeof a === 'string' || typeof b === 'string'
        ? String(a).localeCompare(String(b), undefined, {numeric: true})
        : Number.isNaN(a) ? (Number.isNaN(b) ? 0 : sign) : Number.isNaN(b) ? -sign : a - b;
      body.append(...[...body.rows].sort((a, b) => sign * less(value(a), value(b))));
    });
  });
}
const tip = document.createElement('div');
tip.id = 'tip-box';
tip.hidden = true;
document.body.append(tip);
for (const svg of document.querySelectorAll('svg')) {
  for (const title of svg.querySelectorAll(':scope :not(defs) > title')) {
    if (title.parentNode === svg) continue;
    title.parentNode.setAttribute('data-tip', title.textContent);
    title.remove();
  }
}
document.addEventListener('pointerover', event => {
  const found = event.target.closest?.('[data-tip]');
  tip.hidden = !found;
  if (!found) return;
  tip.textContent = found.getAttribute('data-tip');
  const right = Math.max(8, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8));
  tip.style.left = right + 'px';
  tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8) + 'px';
});
"""
