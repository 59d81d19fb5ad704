"""The page's one style sheet: light and dark as the reader's system is, narrow screens, paper."""

from __future__ import annotations

__all__ = ["STYLE"]

# The steps of the heat map run from the background to one hue; text has a contrast of 4.5 or more.
STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2128;--dim:#59636e;--line:#d1d9e0;--card:#f6f8fa;
--blue:#0969da;--red:#cf222e;--green:#1a7f37;--amber:#9a6700;--grey:#8c959f;--mark:#1c2128;
--dark:#1c2128;--pale:#fff;
--h0:#eef4fb;--h1:#d3e5f8;--h2:#add0f2;--h3:#7fb5ea;--h4:#4f96dd;--h5:#2a76c6;--h6:#1557a0;--h7:#0b3a72}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#9198a1;--line:#3d444d;--card:#161b22;
--blue:#4493f8;--red:#f85149;--green:#3fb950;--amber:#d29922;--grey:#6e7681;--mark:#e6edf3;
--dark:#fff;--pale:#0d1117;
--h0:#14202e;--h1:#16304d;--h2:#174270;--h3:#195896;--h4:#2472bd;--h5:#4591de;--h6:#7cb5f0;--h7:#c2dffb}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,"Segoe UI",Roboto,sans-serif}
header,main,footer{max-width:1080px;margin:0 auto;padding:0 20px}
header{padding-top:28px}footer{padding-bottom:40px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:21px;margin:44px 0 12px;padding-top:12px;border-top:1px solid var(--line);overflow-wrap:anywhere}
h3{font-size:17px;margin:28px 0 8px;overflow-wrap:anywhere}
p{margin:8px 0;max-width:46em}
.lead{color:var(--dim);overflow-wrap:anywhere}
.note,figcaption,caption,.keys,footer{color:var(--dim);font-size:14px}
a{color:var(--blue)}
nav ul{display:flex;flex-wrap:wrap;gap:4px 16px;padding:0;margin:16px 0 0;list-style:none;font-size:14px}
nav a{overflow-wrap:anywhere}
figure{margin:16px 0}figcaption{margin-top:4px;max-width:52em}
svg{display:block;max-width:100%;height:auto;font:12px system-ui,"Segoe UI",Roboto,sans-serif}
svg text{fill:var(--fg)}svg .small{fill:var(--dim);font-size:11px}svg .name{font-weight:600}
.weight{fill:var(--fg);font-weight:600;paint-order:stroke;stroke:var(--bg);stroke-width:5px}
.scroll{overflow-x:auto;max-width:100%}
:focus-visible{outline:2px solid var(--blue);outline-offset:2px}
table{border-collapse:collapse;font-size:14px;margin:8px 0 4px;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:6px 0;font-weight:600;color:var(--fg)}
th,td{text-align:left;padding:5px 14px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
td,th{max-width:26em;min-width:3.4em}.long{overflow-wrap:anywhere}
tbody th{max-width:46em}
thead th{color:var(--dim);font-weight:600;vertical-align:bottom;overflow-wrap:normal}
tbody th{font-weight:500}
:is(th,td):has(.long){min-width:min(20em,56vw)}
.n{text-align:right}td.n{white-space:nowrap}
td code{font:12px ui-monospace,Consolas,monospace;display:block;min-width:25em;overflow-wrap:anywhere}
th button{all:unset;cursor:pointer;font:inherit}th button::after{content:"\\a0\\2195";color:var(--grey)}
th[aria-sort=ascending] button::after{content:"\\a0\\2191";color:var(--fg)}
th[aria-sort=descending] button::after{content:"\\a0\\2193";color:var(--fg)}
th button:focus-visible{outline:2px solid var(--blue)}
details{margin:14px 0;border:1px solid var(--line);border-radius:8px;padding:0 14px}
summary{cursor:pointer;padding:8px 0;font-weight:600}
.facts{display:flex;flex-wrap:wrap;gap:10px;margin:12px 0}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:7px 13px}
dt{color:var(--dim);font-size:13px}dd{margin:0;font-weight:600;overflow-wrap:anywhere}
.pair{display:flex;flex-wrap:wrap;gap:8px 28px}.pair figure{flex:1 1 320px;max-width:500px}
.pair svg{width:100%}
.keys span{margin-right:18px;white-space:nowrap}
.key{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px;background:var(--grey)}
.box{fill:var(--card);stroke:var(--line)}.bar{fill:var(--grey)}
.bar.built,.key.built{fill:var(--blue);background:var(--blue)}
.bar.cached,.key.cached{fill:var(--green);background:var(--green)}
.bar.due,.key.due{fill:var(--amber);background:var(--amber)}
.bar.stopped,.key.stopped{fill:var(--red);background:var(--red)}
.box.stopped{stroke:var(--red)}.box.idle{stroke-dasharray:4 3}
.edge{fill:none;stroke:var(--grey);stroke-width:1.4}.dotted{stroke-dasharray:2 4}.tip{fill:var(--grey)}
.grid{stroke:var(--line)}.axis{stroke:var(--grey)}
.curve{fill:none}.thin{stroke:var(--h5);stroke-width:1;opacity:.5}.thick{stroke:var(--red);stroke-width:2.5}
.curve.thin:hover{opacity:1;stroke-width:2.5}
.curve.main{stroke:var(--h5);stroke-width:2.5}.dot{fill:var(--h5);stroke:var(--bg);stroke-width:1.5}
.dot:hover{fill:var(--red)}svg .number{font-size:11px;paint-order:stroke;stroke:var(--bg);stroke-width:4px}
svg .on-light{fill:var(--dark)}svg .on-strong{fill:var(--pale)}
svg .cell{pointer-events:none;font-variant-numeric:tabular-nums}
.multiples{display:flex;flex-wrap:wrap;gap:4px 30px;align-items:flex-start}
.multiples figure{display:table}.multiples figcaption{display:table-caption;caption-side:bottom}
.whole{white-space:nowrap}
.fill{fill:var(--h5)}.minus{fill:var(--red)}.none{fill:none;stroke:var(--grey);stroke-dasharray:2 2}
.h0{fill:var(--h0)}.h1{fill:var(--h1)}.h2{fill:var(--h2)}.h3{fill:var(--h3)}
.h4{fill:var(--h4)}.h5{fill:var(--h5)}.h6{fill:var(--h6)}.h7{fill:var(--h7)}
rect[class^=h]{stroke:var(--line);stroke-width:.5}rect[class^=h]:hover{stroke:var(--fg);stroke-width:2}
#tip-box{position:fixed;z-index:9;max-width:min(30em,90vw);background:var(--fg);color:var(--bg);font-size:13px;
padding:5px 9px;border-radius:6px;pointer-events:none;overflow-wrap:anywhere}
@media(max-width:640px){body{font-size:15px}header,main,footer{padding-left:14px;padding-right:14px}
h1{font-size:23px}figure:not(.fit) svg{max-width:none}.fit svg{width:100%}
.multiples figure,.multiples figcaption{display:block;max-width:100%}
.facts div{flex:1 1 40%}th,td{padding-right:10px}}
@media print{:root{--bg:#fff;--fg:#000;--dim:#444;--line:#bbb;--card:#fff}body{font-size:11pt}
header,main,footer{max-width:none;padding:0}nav,th button::after{display:none}.scroll{overflow:visible}
figure,tr,.facts div,h3{break-inside:avoid}h2,h3,caption{break-after:avoid}table{font-size:8pt;max-width:100%}
th,td{padding-right:6px;min-width:0;white-space:normal}tbody th,td code{min-width:0}svg{max-width:100%}
svg *,.key{print-color-adjust:exact;-webkit-print-color-adjust:exact}details:not([open]){display:none}}
"""
