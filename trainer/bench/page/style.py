"""How a report looks: readable at 1280 and at 400 pixels, on paper too. Wide tables scroll in their box."""

CSS = """
:root { --ink: #111827; --soft: #6b7280; --line: #e5e7eb; --back: #f9fafb; --good: #00694d; --bad: #a63d00; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #fff; line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; overflow-wrap: anywhere; letter-spacing: -0.01em; }
h2 { font-size: 21px; margin: 48px 0 8px; padding-top: 16px; border-top: 1px solid var(--line); }
h3 { font-size: 16px; margin: 24px 0 4px; overflow-wrap: anywhere; }
p { margin: 6px 0 12px; max-width: 76ch; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); font-size: 14px; }
.lead { font-size: 17px; }
nav { margin: 14px 0 0; font-size: 14px; display: flex; flex-wrap: wrap; gap: 4px 16px; }
nav a { color: #0063a0; text-decoration: none; }
nav a:hover { text-decoration: underline; }
.box { overflow-x: auto; margin: 12px 0; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { text-align: left; padding: 7px 12px 7px 0; vertical-align: top; border-bottom: 1px solid
  var(--line); }
th { font-weight: 600; border-bottom: 1px solid #9ca3af; white-space: nowrap; }
td.n { white-space: nowrap; } th.n, td.n { text-align: right; padding-right: 20px; }
tbody.student th { border-bottom: 0; padding-top: 16px; color: var(--soft); font-weight: 600; }
tr.teacher td, tr.plain td { background: var(--back); }
td small { display: block; color: var(--soft); font-size: 12px; }
td .name { font-weight: 600; } td.name { min-width: 8em; overflow-wrap: anywhere; }
.reading { white-space: nowrap; }
.above { color: var(--good); font-weight: 600; } .below { color: var(--bad); font-weight: 600; }
.other { color: var(--soft); }
ul.notes { padding-left: 18px; margin: 8px 0; font-size: 14px; color: #374151; max-width: 82ch; }
ul.notes li { overflow-wrap: anywhere; margin: 3px 0; }
figure { margin: 10px 0 20px; }
.drawing { width: 100%; min-width: 0; overflow: hidden; }
.example { display: grid; align-items: start; gap: 8px; padding: 4px 0 6px;
  grid-template-columns: repeat(auto-fill, minmax(144px, 1fr)); }
.example div { font-size: 13px; min-width: 0; } .example img { width: 100%; display: block; border-radius:
  3px;
  image-rendering: auto; border: 1px solid var(--line); }
.example span { display: block; overflow-wrap: anywhere; line-height: 1.3; padding: 2px 0 4px; }
.words { border: 1px solid var(--line); border-radius: 3px; padding: 14px 10px; min-height: 60px;
  overflow-wrap: anywhere; }
.words.wrong { border-color: var(--bad); color: var(--bad); }
.swatches { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 13px; margin: 6px 0 12px; }
.swatches i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 5px;
  vertical-align: -1px; border: 1px solid rgba(0,0,0,.2); }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin:
  12px 0; }
.numbers div { background: var(--back); border: 1px solid var(--line); border-radius: 6px; padding: 10px
  12px; }
.numbers b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; } .numbers span {
  font-size: 13px;
  color: var(--soft); }
details { margin: 8px 0; } summary { cursor: pointer; overflow-wrap: anywhere; }
pre { background: var(--back); border: 1px solid var(--line); border-radius: 4px; padding: 10px 12px;
  margin: 6px 0;
  overflow-x: auto; font-size: 13px; line-height: 1.45; }
code { font-size: 0.92em; overflow-wrap: anywhere; }
footer { margin-top: 56px; color: var(--soft); font-size: 13px; border-top: 1px solid var(--line);
  padding-top: 12px; }
@media (max-width: 600px) { main { padding: 20px 14px 60px; } h1 { font-size: 24px; } h2 { margin-top: 36px; }
  .example { grid-template-columns: 1fr 1fr; } .numbers { grid-template-columns: 1fr 1fr; } }
@media print { .box, pre { overflow: visible; } h2 { break-after: avoid; } figure {
  break-inside: avoid; } }
"""
