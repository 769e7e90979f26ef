% rebase("layout.tpl", title="Statistics", here="statistics", scripts=["statistics.js"], sheets=["uplot/uPlot.min.css"])
<div class="row spread">
<h1>Jobs that ended: {{choices.get(days, f"{days} days")}}</h1>
<nav class="tabs" aria-label="How far back">
% for value, text in choices.items():
<a href="{{root}}/statistics?days={{value}}"\\
% if value == days:
 aria-current="page"\\
% end
>{{text}}</a>
% end
</nav>
</div>
% if not complete:
<p class="notice" role="status">The history is still being read; reload the page to see more of it.</p>
% end
% total = found.total
<div class="panel status">
<div><div class="what">Jobs</div><div class="value">{{f"{total.jobs:,}"}}</div></div>
<div><div class="what">done</div><div class="value">{{f"{total.done:,}"}}\\
% if total.jobs:
 <span class="muted">({{f"{total.done / total.jobs:.0%}"}})</span>\\
% end
</div></div>
<div><div class="what">CPU hours used</div><div class="value">{{hours(total.cpu)}}</div></div>
<div><div class="what">Processor hours held</div><div class="value">{{hours(total.held)}}\\
% if total.held:
 <span class="muted">({{f"{min(1, total.cpu / total.held):.0%}"}} used)</span>\\
% end
</div></div>
</div>
% if not total.jobs:
<p class="panel muted">No job has ended in this time.</p>
% else:
% def use_table(kind, first, rows, css=""):
<div class="scroll"><table class="list {{css}}" data-figures="{{kind}}">
<thead><tr><th scope="col">{{first}}</th><th scope="col" class="number">Jobs</th><th scope="col" class="number">done</th><th scope="col" class="number">CPU hours</th><th scope="col" class="number wide">Processor hours</th></tr></thead>
<tbody>
% for word, use in rows:
<tr><td>\\
%     if kind == "states":
<span class="state state-{{word}}">{{word}}</span>\\
%     else:
{{words.printable(word)}}\\
%     end
</td><td class="number">{{f"{use.jobs:,}"}}</td><td class="number">{{f"{use.done:,}"}}</td><td class="number">{{hours(use.cpu)}}</td><td class="number wide">{{hours(use.held)}}</td></tr>
% end
</tbody></table></div>
% end
% def bins(kind, rows):
<div class="scroll"><table class="list" data-figures="{{kind}}">
<thead><tr><th scope="col">Time</th><th scope="col" class="number">Jobs</th></tr></thead>
<tbody>
% for one in rows:
<tr><td>{{bin_text(one)}}</td><td class="number">{{f"{one.jobs:,}"}}</td></tr>
% end
</tbody></table></div>
% end
<section class="panel" aria-labelledby="by-day">
<h2 id="by-day">By day</h2>
<div class="plot" id="plot-days" data-api="{{root}}/api/v1/statistics?days={{days}}" hidden></div>
<details class="figures" open><summary>Figures</summary>
% use_table("days", "Day", list(reversed(found.days)))
</details>
</section>
<div class="grid">
<section class="panel" aria-labelledby="by-state"><h2 id="by-state">By state</h2>
% use_table("states", "State", found.states)
</section>
% if web.display_details:
<section class="panel" aria-labelledby="by-owner"><h2 id="by-owner">By owner</h2>
% use_table("owners", "Owner", found.owners[:100])
% if len(found.owners) > 100:
<p class="muted">and {{len(found.owners) - 100}} more, who used less</p>
% end
</section>
% end
</div>
<div class="grid">
<section class="panel" aria-labelledby="by-waiting"><h2 id="by-waiting">How long jobs waited</h2>
<div class="plot" id="plot-waiting" hidden></div>
<details class="figures" open><summary>Figures</summary>
% bins("waiting", found.waiting)
</details>
</section>
<section class="panel" aria-labelledby="by-running"><h2 id="by-running">How long jobs ran</h2>
<div class="plot" id="plot-running" hidden></div>
<details class="figures" open><summary>Figures</summary>
% bins("running", found.running)
</details>
</section>
</div>
% end
