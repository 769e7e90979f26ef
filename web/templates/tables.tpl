<section class="panel{{"" if running.rows else " empty"}}" data-live="running" aria-labelledby="h-running">
<h2 id="h-running">Running <span class="muted">{{running.total}}</span></h2>
% if running.rows:
<div class="scroll"><table class="list">
<thead><tr>
% if may["operate"]:
<th class="check"><span class="hidden-visually">Choose</span></th>
% end
<th>Job</th><th>State</th><th>Progress</th><th class="number">Elapsed</th><th class="number">Left</th><th class="number wide">Proc.</th><th class="number">CPU</th><th class="number">Memory</th>
% if details:
<th class="wide">Owner</th>
% end
</tr></thead><tbody>
% for row in running.rows:
% active = live[row.key]
<tr data-key="r-{{row.key}}">
% if may["operate"]:
<td class="check"><input type="checkbox" name="key" value="{{row.key}}" form="bulk" aria-label="Choose {{words.printable(row.name)}}"></td>
% end
<td class="job"><a href="{{root}}/job/{{row.key}}">{{words.printable(row.name)}}</a>
% if details and row.info:
<span class="muted">{{words.printable(row.info)}}</span>
% end
</td>
<td class="text"><span class="state state-{{row.state}}">{{row.state}}</span>
% if details and row.reason:
<span class="muted">{{words.printable(row.reason)}}</span>
% end
</td>
<td class="bar">\\
% if active.progress is not None:
<progress max="1" value="{{active.progress}}" aria-label="Progress of {{words.printable(row.name)}}"></progress> {{words.percent(active.progress)}}<span class="muted" title="{{active.text}}">{{active.text}}</span>\\
% end
</td>
<td class="number">\\
% if row.started:
<span data-since="{{f"{row.started:.1f}"}}">{{words.duration(now - row.started)}}</span>\\
% end
</td>
<td class="number">{{left(row, active, now)}}</td>
<td class="number wide">{{row.nb_proc * (row.tasks.running if row.tasks is not None else 1)}}</td>
<td class="number">{{"" if active.cpu is None else f"{active.cpu:.0%}"}}</td>
<td class="number">{{"" if active.memory is None else words.size_text(active.memory)}}</td>
% if details:
<td class="wide">{{words.printable(row.owner)}}</td>
% end
</tr>
% end
</tbody></table></div>
% include("pager.tpl", table=running)
% else:
<p class="muted">{{"No running job matches." if filtered else "No job is running."}}</p>
% end
</section>

<section class="panel{{"" if waiting.rows else " empty"}}" data-live="waiting" aria-labelledby="h-waiting">
<h2 id="h-waiting">Waiting <span class="muted">{{waiting.total}}</span></h2>
% if waiting.rows:
<div class="scroll"><table class="list">
<thead><tr>
% if may["operate"]:
<th class="check"><span class="hidden-visually">Choose</span></th>
% end
<th>Job</th><th>State</th><th>Why it waits</th><th class="number">Proc.</th><th class="number wide">Priority</th><th>Submitted</th>
% if details:
<th class="wide">Owner</th>
% end
</tr></thead><tbody>
% for row in waiting.rows:
<tr data-key="w-{{row.key}}">
% if may["operate"]:
<td class="check"><input type="checkbox" name="key" value="{{row.key}}" form="bulk" aria-label="Choose {{words.printable(row.name)}}"></td>
% end
<td class="job"><a href="{{root}}/job/{{row.key}}">{{words.printable(row.name)}}</a>
% if row.tasks is not None:
<span class="muted">{{row.tasks.total}} tasks</span>
% end
% if details and row.info:
<span class="muted">{{words.printable(row.info)}}</span>
% end
</td>
<td><span class="state state-{{row.state}}">{{row.state}}</span></td>
<td class="text">{{words.printable(why.get(row.key, ""))}}</td>
<td class="number">{{row.nb_proc}}</td>
<td class="number wide">{{row.priority}}</td>
<td class="when"><time datetime="{{words.stamp(row.submitted)}}">{{words.short(row.submitted, now)}}</time></td>
% if details:
<td class="wide">{{words.printable(row.owner)}}</td>
% end
</tr>
% end
</tbody></table></div>
% include("pager.tpl", table=waiting)
% elif filtered:
<p class="muted">No waiting job matches.</p>
% elif jobs == 0:
<p>No jobs yet. Copy a job folder into <code>{{words.printable(site.settings.folder)}}/QM_qJobs</code>, or <a href="{{root}}/submit">submit one here</a>.</p>
% else:
<p class="muted">No job is waiting.</p>
% end
</section>

<section class="panel{{"" if ended.rows else " empty"}}" data-live="ended" aria-labelledby="h-ended">
<h2 id="h-ended">Finished <span class="muted">{{ended.total}}</span></h2>
% if ended.rows:
% sizes = any(row.size for row in ended.rows)
<div class="scroll"><table class="list">
<thead><tr>
% if may["operate"]:
<th class="check"><span class="hidden-visually">Choose</span></th>
% end
% heads = [("name", "Job", ""), ("state", "State", ""), ("finished", "Finished", ""), ("duration", "Took", "number"), ("cpu_seconds", "CPU time", "number wide"), ("peak_memory", "Memory", "number wide")]
% if sizes:
%     heads.append(("", "Size", "number wide"))
% end
% if details:
%     heads.append(("owner", "Owner", "wide"))
% end
% for word, text, kind in heads:
<th class="{{kind}}"\\
% if word and sort == word:
 aria-sort="{{"descending" if descending else "ascending"}}"\\
% end
>\\
% if word:
<a href="{{root}}/{{link(sort=word, dir="" if sort == word and descending else "desc", ep="")}}">{{text}}{{(" ▾" if descending else " ▴") if sort == word else ""}}</a>\\
% else:
{{text}}\\
% end
</th>
% end
</tr></thead><tbody>
% for row in ended.rows:
<tr data-key="e-{{row.key}}">
% if may["operate"]:
<td class="check"><input type="checkbox" name="key" value="{{row.key}}" form="bulk" aria-label="Choose {{words.printable(row.name)}}"></td>
% end
<td class="job"><a href="{{root}}/job/{{row.key}}">{{words.printable(row.name)}}</a>
% if row.tasks is not None:
<span class="muted">{{row.tasks.total}} tasks</span>
% end
% if details and row.info:
<span class="muted">{{words.printable(row.info)}}</span>
% end
</td>
<td class="text"><span class="state state-{{row.state}}">{{row.state}}</span>
% if details and row.reason:
<span class="muted">{{words.printable(row.reason)}}</span>
% end
</td>
<td class="when"><time datetime="{{words.stamp(row.finished)}}">{{words.short(row.finished, now)}}</time></td>
<td class="number">{{words.duration(row.finished - row.started) if row.finished and row.started else ""}}</td>
<td class="number wide">{{"" if row.cpu_seconds is None else words.duration(row.cpu_seconds)}}</td>
<td class="number wide">{{"" if row.peak_memory is None else words.size_text(row.peak_memory)}}</td>
% if sizes:
<td class="number wide">{{words.printable(row.size)}}</td>
% end
% if details:
<td class="wide">{{words.printable(row.owner)}}</td>
% end
</tr>
% end
</tbody></table></div>
% include("pager.tpl", table=ended)
% else:
<p class="muted">{{"No finished job matches." if filtered else "No job has finished yet."}}</p>
% end
</section>
