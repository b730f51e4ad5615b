"""The style of a load test's page: one sheet, light and dark, nothing loaded from elsewhere."""

STYLE = """
:root {
  color-scheme: light dark;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  --page: #f5f6f8; --surface: #ffffff; --ink: #1a1d23; --muted: #5c6573; --grid: #dde1e7;
  --good: #12734a; --good-back: #e0f4ea; --bad: #b3261e; --bad-back: #fde7e5;
  --series-1: #2f6fde; --series-2: #0d9488; --series-3: #d1495b; --series-4: #8a5cd1;
  --series-5: #c98a13; --series-6: #4b9b3f; --series-7: #b8509a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151a; --surface: #1b1f27; --ink: #e9ecf1; --muted: #9aa4b2; --grid: #333a46;
    --good: #5fd3a0; --good-back: #143527; --bad: #ff9a92; --bad-back: #431d1b;
    --series-1: #6da3ff; --series-2: #38c7b7; --series-3: #ff8090; --series-4: #b892f2;
    --series-5: #e8b34a; --series-6: #83cf75; --series-7: #e58cc9;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 var(--font); }
main { max-width: 1020px; margin: 0 auto; padding: 32px 20px 56px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0; }
h2 { font-size: 18px; margin: 36px 0 4px; }
h3 { font-size: 14px; margin: 0 0 6px; font-weight: 600; }
p { margin: 4px 0 12px; max-width: 76ch; }
.muted, figcaption { color: var(--muted); }
header { display: flex; gap: 16px; align-items: center; flex-wrap: wrap; }
.verdict { font-weight: 600; padding: 3px 14px; border-radius: 99px; }
.good { color: var(--good); } .bad { color: var(--bad); }
.verdict.good { background: var(--good-back); } .verdict.bad { background: var(--bad-back); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 22px 0 8px; }
.tile, figure, .scroll { background: var(--surface); border: 1px solid var(--grid);
  border-radius: 10px; }
.tile { padding: 14px 16px; }
.tile b { display: block; font-size: 25px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile small { color: var(--muted); }
figure { margin: 10px 0; padding: 14px 14px 8px; }
figcaption { font-size: 13px; padding: 4px 4px 6px; }
svg { display: block; width: 100%; height: auto; }
.pair { display: grid; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 12px; }
.pair figure, .pair .scroll { margin: 0; }
.scroll { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 7px 12px; white-space: nowrap; }
th { color: var(--muted); font-weight: 500; border-bottom: 1px solid var(--grid); }
tr + tr td { border-top: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; }
.facts td { text-align: left; white-space: normal; }
.facts td:first-child { color: var(--muted); white-space: nowrap; width: 1%; }
code { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
ul { padding-left: 20px; }
"""
