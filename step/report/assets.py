"""The page's style sheet and script; both are written into the page, which asks the network for nothing."""

from __future__ import annotations

from step.report.style import colour_variables

_LIGHT = (
    "--ink:#1d2129;--soft:#5a6270;--paper:#ffffff;--tint:#f6f7f9;--grid:#e8eaee;--axis:#aab0bb;--rule:#d9dde3;"
    "--empty:#eef0f3;" + colour_variables(dark=False)
)
_DARK = (
    "--ink:#e4e7ec;--soft:#9aa3b2;--paper:#14171c;--tint:#1b1f26;--grid:#2a2f38;--axis:#5d6675;--rule:#333a45;"
    "--empty:#21262e;" + colour_variables(dark=True)
)

STYLE = (
    f":root{{color-scheme:light dark;{_LIGHT}}}\n"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_DARK}}}}}\n"
    """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
  font:17px/1.55 Charter,"Bitstream Charter","Iowan Old Style",Cambria,Georgia,"Liberation Serif",serif}
main{max-width:1120px;margin:0 auto;padding:56px 28px 96px}
h1{font-size:2.15rem;line-height:1.18;letter-spacing:-.012em;margin:0 0 .5rem;font-weight:700;max-width:24em;
  text-wrap:balance}
h2{font-size:1.4rem;line-height:1.25;margin:3.2rem 0 .9rem;padding-top:1.3rem;border-top:1px solid var(--rule)}
h3{font:600 .82rem/1.35 Inter,"Helvetica Neue",Arial,sans-serif;margin:0 0 .35rem;letter-spacing:.005em;
  overflow-wrap:anywhere}
p{margin:0 0 .9rem;max-width:46em}
.kicker,nav,table,dl,.key,figcaption,.missing,summary,noscript{font-family:Inter,"Helvetica Neue",Arial,sans-serif}
.kicker{font-size:.74rem;letter-spacing:.1em;text-transform:uppercase;color:var(--soft);margin:0 0 .7rem}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.3rem;font-size:.84rem;margin:1.1rem 0 2.4rem}
nav a{color:var(--soft);text-decoration:none;border-bottom:1px solid var(--rule)}
nav a:hover{color:var(--ink);border-color:currentColor}
.scroll{overflow-x:auto;margin:0 0 .6rem}
table{border-collapse:collapse;font-size:.86rem;line-height:1.4;font-variant-numeric:tabular-nums lining-nums;
  border-top:1.5px solid var(--ink);border-bottom:1.5px solid var(--ink)}
th,td{text-align:left;padding:.42rem 1.1rem .42rem 0;vertical-align:top;font-weight:400}
th:last-child,td:last-child{padding-right:.2rem}
thead th{font-weight:600;border-bottom:1px solid var(--axis);vertical-align:bottom}
tbody tr+tr>*{border-top:1px solid var(--grid)}
.number{text-align:right;white-space:nowrap}
tbody th{color:var(--soft)}
table.headline{width:100%;font-size:.93rem}
table.headline td{font-size:1rem}
table.headline thead th,table.headline td{padding-left:1rem}
table.headline tbody th{position:sticky;left:0;background:var(--paper)}
table.small{width:100%;font-size:.76rem;margin-top:.3rem}
table.small th{white-space:nowrap}
table.small th,table.small td{padding:.26rem .5rem .26rem 0}
table.small .number+:not(.number){padding-left:1rem}
.indent{padding-left:1.1em}
table.notes td{min-width:9em}
.tag{display:inline-block;font-size:.68rem;font-weight:500;color:var(--soft);border:1px solid var(--rule);
  border-radius:3px;padding:0 .35em;margin-left:.45em;vertical-align:.08em}
figure{margin:1.2rem 0 1.6rem}
figure+figure{margin-top:3rem}
h3+[role=img]{margin-top:-22px}
figcaption{font-size:.86rem;line-height:1.5;color:var(--soft);max-width:62em;margin-top:.8rem}
figcaption b{color:var(--ink)}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(320px,100%),1fr));gap:1.8rem 2.2rem}
.panels>div,.sample>div{min-width:0}
.panels .scroll{margin-top:.8rem}
.sample{display:grid;grid-template-columns:190px minmax(0,1fr) minmax(0,1.15fr);gap:1.2rem 2rem;align-items:start;
  margin-bottom:0}
.sample.plain{grid-template-columns:190px minmax(0,1fr)}
.sample img{width:100%;max-width:190px;image-rendering:pixelated;display:block;border:1px solid var(--rule)}
@media screen and (max-width:820px){.sample,.sample.plain{grid-template-columns:minmax(0,1fr)}}
.tiles{display:flex;flex-wrap:wrap;gap:.7rem .9rem;margin:.5rem 0 1rem}
.tiles>div{width:108px;font:.7rem/1.3 Inter,"Helvetica Neue",Arial,sans-serif;color:var(--soft);overflow-wrap:anywhere}
.tiles svg{width:100%;display:block;margin-bottom:.25rem;border:1px solid var(--rule);background:var(--empty)}
.tiles image{image-rendering:pixelated}
.grey{filter:grayscale(1)}
.kept{position:absolute;width:0;height:0}
h4{font:600 .76rem/1.35 Inter,"Helvetica Neue",Arial,sans-serif;color:var(--soft);margin:.9rem 0 .2rem}
.facts{font:.8rem/1.5 Inter,"Helvetica Neue",Arial,sans-serif;color:var(--soft);margin:.6rem 0 0;
  max-width:62em}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;list-style:none;margin:0 0 1rem;padding:0;font-size:.82rem}
.key li{display:flex;align-items:center;gap:.45rem}
.swatch{width:.85em;height:.85em;border-radius:2px;background:var(--hue);flex:none;display:inline-block}
.mark{width:.9em;height:.9em;flex:none;overflow:visible}
th .mark{margin-right:.45em;vertical-align:-.06em}
ul.findings{padding-left:1.1em;margin:1.2rem 0 0;max-width:50em}
ul.findings li{margin:.3rem 0}
ul.small{font:.8rem/1.5 Inter,"Helvetica Neue",Arial,sans-serif;color:var(--soft);max-width:none;margin-top:.4rem}
ul.small li{margin:.15rem 0;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:minmax(7em,max-content) 1fr;gap:.4rem 1.6rem;font-size:.86rem;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
code{font:.94em ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.missing{color:var(--soft);font-size:.9rem;border-left:3px solid var(--rule);padding:.2rem 0 .2rem .9rem}
details{margin:1.2rem 0}
summary{cursor:pointer;font-size:.88rem;color:var(--soft);margin-bottom:.8rem}
@media screen and (max-width:600px){main{padding:32px 16px 64px}h1{font-size:1.6rem}body{font-size:16px}
  table.headline .tag{display:none}
  dl{grid-template-columns:1fr;gap:.05rem}dd{margin-bottom:.6rem}}
@media print{main{padding:0;max-width:none}nav{display:none}figure,.sample{break-inside:avoid}
  h2{margin-top:2rem;break-after:avoid}.sample{grid-template-columns:110px 1fr 1.15fr}.modebar{display:none}}
"""
)

# Colours stand in the figures as var(--name); they are looked up when a figure is drawn and again when the reader's
# screen changes between light and dark.
SCRIPT = """
"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const options = {responsive: true, displaylogo: false, modeBarButtons: [["toImage"]]};
  function paint(value, key, style) {
    if (Array.isArray(value)) return value.map(item => paint(item, key, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, paint(item, name, style)]));
    const name = typeof value === "string" && /color/.test(key) && value.match(/^var\\((--[a-z-]+)\\)$/);
    return name ? style.getPropertyValue(name[1]).trim() : value;
  }
  function draw() {
    const style = getComputedStyle(document.documentElement);
    for (const [id, figure] of Object.entries(figures)) {
      const drawn = paint(figure, "", style);
      Plotly.react(id, drawn.data, drawn.layout,
                   {...options, toImageButtonOptions: {format: "svg", filename: id}});
    }
  }
  draw();
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);
})();
"""
