<section class="panel" data-live="job-tasks" aria-labelledby="h-tasks">
<div class="row spread"><h2 id="h-tasks">Tasks <span class="muted">{{grid.total}}</span></h2>
<a class="button" href="{{job}}/tasks.csv" download>Download (CSV)</a></div>
<p class="row legend">
% for state, number in grid.counts:
<span class="state state-{{state}}">{{number}} {{state}}</span>
% end
</p>
% if grid.total > 1:
<div class="tasks" id="task-grid" aria-hidden="true">
% for cell in grid.cells:
% if cell.task is None:
<i class="{{cell.kind}}" title="{{cell.text}}"></i>
% else:
<a class="{{cell.kind}}" href="{{job}}?task={{cell.task}}#log" tabindex="-1" title="{{cell.text}}"></a>
% end
% end
</div>
% if grid.per_cell > 1:
<p class="muted">Each cell stands for {{grid.per_cell}} tasks.</p>
% end
% end
% if grid.durations is not None:
<figure class="durations">
% if grid.durations.bars:
<svg viewBox="0 0 {{10 * len(grid.durations.bars)}} 48" preserveAspectRatio="none" aria-hidden="true">
% for at, bar in enumerate(grid.durations.bars):
% if bar.number:
<rect x="{{10 * at + 1}}" width="8" y="{{f"{48 - max(2, 48 * bar.height):.1f}"}}" height="{{f"{max(2, 48 * bar.height):.1f}"}}"><title>{{words.duration(bar.low)}} to {{words.duration(bar.high)}}: {{bar.number}}</title></rect>
% end
% end
</svg>
<div class="row spread muted" aria-hidden="true"><span>{{words.duration(grid.durations.bars[0].low)}}</span><span>{{words.duration(grid.durations.bars[-1].high)}}</span></div>
% end
<figcaption class="muted">{{grid.durations.text}}</figcaption>
</figure>
% end
% if grid.listed:
<div class="scroll"><table class="list"><thead><tr><th class="number">Task</th>
% if array.names:
<th>Values</th>
% end
<th>State</th><th>Started</th><th class="number">Took</th><th class="number wide">Attempt</th><th>Outcome</th></tr></thead><tbody>
% for entry in grid.listed:
<tr data-key="t-{{entry.task}}"><td class="number"><a href="{{job}}?task={{entry.task}}#log" aria-label="Log of task {{entry.task}}">{{entry.task}}</a></td>
% if array.names:
<td class="text">{{words.printable(array.values_text(entry.task))}}</td>
% end
<td><span class="state state-{{entry.state}}">{{entry.state}}</span></td><td class="when"><time datetime="{{words.stamp(entry.started)}}">{{words.short(entry.started, now)}}</time></td><td class="number">\\
% if entry.finished is None and entry.started is not None:
<span data-since="{{f"{entry.started:.1f}"}}">{{words.duration(now - entry.started)}}</span>\\
% elif entry.started is not None:
{{words.duration(entry.finished - entry.started)}}\\
% end
</td><td class="number wide">{{entry.attempt or ""}}</td><td class="text">{{words.printable(outcome(entry))}}</td></tr>
% end
</tbody></table></div>
% if grid.more:
<p class="muted">{{grid.more}} more stand in the CSV file.</p>
% end
% end
</section>
