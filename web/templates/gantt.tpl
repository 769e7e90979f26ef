% # Numbers, states and keys (ASCII letters and digits) need no escaping: with 3,000 bars that counts.
% if not complete:
<p class="notice" role="status">The history is still being read: not all jobs are here yet.</p>
% end
% if chart.left_out:
<p class="notice warn">Only the newest {{f"{len(chart.bars):,}"}} jobs are drawn; {{f"{chart.left_out:,}"}} more ran in this time.</p>
% end
% if not chart.bars:
<p class="panel muted">Nothing ran in this time.</p>
% else:
<div class="panel">
<div class="gantt">
<svg class="gantt-slots" width="30" height="{{!chart.height}}" aria-hidden="true">
% for row, label in enumerate(chart.labels):
%     if chart.row >= 10 or row % 4 == 0:
<text x="24" y="{{22 + row * chart.row + chart.row * 0.7}}" text-anchor="end">{{label}}</text>
%     end
% end
</svg>
<svg class="gantt-chart" width="100%" height="{{!chart.height}}" role="group" aria-label="Processor slots and what ran in them; the jobs are listed below">
% for tick in chart.ticks():
<line x1="{{!tick.at}}%" x2="{{!tick.at}}%" y1="18" y2="{{!chart.height}}" class="tick"/><text x="{{!tick.at}}%" y="12" text-anchor="middle">{{!tick.text}}</text>
% end
% for bar in chart.bars:
<a data-key="bar-{{!bar.key}}"\\
%     if bar.filed:
 href="{{root}}/job/{{!bar.key}}" tabindex="-1"\\
%     end
><title>{{title_of(bar, chart.until)}}</title>\\
%     for number, box in enumerate(chart.boxes(bar)):
<rect class="bar-{{!bar.state}}{{" broad" if box.width > 1 else ""}}" x="{{!box.x}}%" y="{{!box.y}}" width="{{!box.width}}%" height="{{!box.height}}" rx="2"/>\\
%         if number == 0 and chart.row >= 16 and box.width >= 4:
<svg x="{{!box.x}}%" y="{{!box.y}}" width="{{!box.width}}%" height="{{!box.height}}"><text x="4" y="12.5" class="on-{{!bar.state}}">{{called(bar)}}</text></svg>\\
%         end
%     end
</a>
% end
</svg>
</div>
<p class="row legend muted">
% for state in sorted({bar.state.value for bar in chart.bars}):
<span class="state state-{{state}}">{{state}}</span>
% end
<span>One line is one processor slot. Jobs that ran on several have several.</span>
</p>
</div>
<details class="panel" data-key="jobs"><summary>The same as a table: {{f"{len(chart.bars):,}"}} jobs\\
% if len(chart.bars) > listed:
, the newest {{listed}} of them\\
% end
</summary>
<div class="scroll"><table class="list">
<thead><tr><th scope="col">Job</th><th scope="col">State</th>\\
% if web.display_details:
<th scope="col" class="wide">Owner</th>\\
% end
<th scope="col">Started</th><th scope="col">Ended</th><th scope="col" class="number">Took</th><th scope="col" class="number">Processors</th><th scope="col" class="number wide">Slots</th></tr></thead>
<tbody>
% for bar in chart.bars[:listed]:
<tr data-key="row-{{!bar.key}}"><td class="job">\\
%     if bar.filed:
<a href="{{root}}/job/{{!bar.key}}">{{called(bar)}}</a>\\
%     else:
{{called(bar)}}\\
%     end
</td><td><span class="state state-{{!bar.state}}">{{!bar.state}}</span></td>\\
%     if web.display_details:
<td class="wide">{{words.printable(bar.owner)}}</td>\\
%     end
<td class="when">{{words.short(bar.started, now)}}</td><td class="when">{{words.short(bar.finished, now)}}</td>\\
%     if bar.finished is None:
<td class="number"><span data-since="{{!bar.started}}">{{words.duration(now - bar.started)}}</span></td>\\
%     else:
<td class="number">{{words.duration(bar.finished - bar.started)}}</td>\\
%     end
<td class="number">{{!bar.nb_proc}}</td><td class="number wide">{{", ".join(str(chart.labels[slot]) for slot in bar.slots[:8])}}\\
%     if len(bar.slots) > 8:
, …\\
%     end
</td></tr>
% end
</tbody></table></div></details>
% end
