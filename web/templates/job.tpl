% rebase("layout.tpl", title=f"{words.printable(row.name)}: {row.state}", here="job", scripts=["jobactions.js", "log.js", "jobplot.js"] if details else ["jobactions.js"], sheets=["uplot/uPlot.min.css"] if details else [])
% job = f"{root}/job/{row.key}"
% api = f"{root}/api/v1/jobs/{row.key}"
<section class="panel" data-live="job-head" aria-label="State">
<h1>{{words.printable(row.name)}}</h1>
<div class="row spread">
<div class="row"><span class="state state-{{row.state}}">{{row.state}}</span>\\
% if why:
 <span>{{why}}</span>\\
% end
% if is_active and active.progress is not None:
 <progress max="1" value="{{active.progress}}" aria-label="Progress"></progress> <span>{{words.percent(active.progress)}}</span> <span class="muted mono">{{words.printable(active.text)}}</span>\\
% end
</div>
% if verbs:
<form method="post" action="{{root}}/action" class="row" id="job-actions" aria-label="What to do with the job">
<input type="hidden" name="csrf" value="{{visitor.csrf}}"><input type="hidden" name="key" value="{{row.key}}"><input type="hidden" name="back" value="{{back}}">
% for verb in verbs:
%     if verb != "delete":
<button name="verb" value="{{verb}}" class="{{"danger" if verb == "kill" else ""}}">{{retry_label if verb == "retry" else verb.capitalize()}}</button>
%     end
% end
% if "delete" in verbs:
<button name="verb" value="delete" class="danger" form="job-delete">Delete</button>
% end
</form>
% end
</div>
% if "delete" in verbs:
<form method="post" action="{{root}}/action" id="job-delete"><input type="hidden" name="csrf" value="{{visitor.csrf}}"><input type="hidden" name="key" value="{{row.key}}"><input type="hidden" name="back" value="{{root}}/"></form>
% end
</section>

<div class="grid">
<section class="panel" data-live="job-facts" aria-labelledby="h-facts">
<h2 id="h-facts">Facts</h2>
<dl class="facts">
% for fact in facts:
<dt>{{fact.label}}</dt><dd>\\
% if fact.stamp:
<time datetime="{{fact.stamp}}">{{fact.text}}</time>\\
% elif fact.since is not None:
<span data-since="{{f"{fact.since:.1f}"}}">{{fact.text}}</span>\\
% else:
{{fact.text}}\\
% end
</dd>
% end
</dl>
</section>
% if details:
<section class="panel" aria-labelledby="h-usage">
<h2 id="h-usage">CPU and memory</h2>
<div id="usage-plot" data-api="{{api}}/usage"></div>
<div data-live="job-usage">
% if usage is None:
<p class="muted">{{"Nothing was measured yet: QM looks every 5 s." if is_active else "Nothing was measured."}}</p>
% else:
<table class="list"><thead><tr><th>Use</th><th class="number">mean</th><th class="number">peak</th></tr></thead>
<tbody><tr><td>Processors in use</td><td class="number">{{usage["cpu_mean"]}}</td><td class="number">{{usage["cpu_peak"]}}</td></tr>
<tr><td>Memory</td><td class="number">{{usage["memory_mean"]}}</td><td class="number">{{usage["memory_peak"]}}</td></tr></tbody></table>
% end
</div>
</section>
% end
</div>

% if grid is not None:
% include("tasks.tpl")
% end
% if details:
<section class="panel log" id="log" data-api="{{api}}/log" data-log="{{log}}" aria-labelledby="h-log">
<div class="row spread"><h2 id="h-log">Log <span class="muted mono">{{log}}</span></h2>
<a class="button" href="{{job}}/raw/{{log}}" download="{{log}}">Download</a></div>
% if grid is not None:
<form class="row" method="get" action="{{job}}#log" aria-label="Log of one task">
<label for="task">Log of task</label><input id="task" name="task" type="number" min="0" step="1" value="{{log.split(".")[1] if log.startswith("process.") and log.split(".")[1].isdigit() else ""}}" required><button>Show</button>
</form>
% end
<div data-live="job-logs">
% if len(logs) > 1:
<nav class="tabs" aria-label="Logs of this job">
% for one in logs:
<a href="{{job}}{{"" if one.name == "process.log" else f"?log={one.name}"}}#log"\\
% if one.name == log:
 aria-current="page"\\
% end
>{{one.name}} <span class="muted">{{words.size_text(one.size)}}</span></a>
% end
</nav>
% end
</div>
<div class="row log-tools" id="log-tools" hidden>
<form class="row" id="log-search" role="search" aria-label="Search in the log">
<label class="hidden-visually" for="log-q">Search in the log</label><input id="log-q" type="search" size="20" maxlength="1000" placeholder="Search in the log" autocomplete="off" spellcheck="false">
<button name="way" value="next" title="Next match (Enter; n in the log)">Next</button><button name="way" value="back" title="Previous match (Shift+Enter; N in the log)">Previous</button> <span class="muted" id="log-found" role="status"></span>
</form>
<label class="row"><input type="checkbox" id="log-follow" checked> Follow</label>
<label class="row"><input type="checkbox" id="log-wrap" checked> Wrap lines</label>
<button type="button" id="log-begin">Beginning</button>
<button type="button" id="log-end">End</button>
</div>
<div class="log-box wrap" id="log-box" role="log" aria-live="off" aria-labelledby="h-log" tabindex="0">\\
% if log_text is None:
<p class="muted">There is no log yet.</p>\\
% else:
% if not log_text[1]:
<p class="muted">The end of a longer log:</p>\\
% end
<pre>{{log_text[0]}}</pre>\\
% end
</div>
<p class="muted log-said" id="log-said" role="status"></p>
</section>

<div data-live="job-attempts">
% if len(attempts) > 1:
<section class="panel" aria-labelledby="h-attempts">
<h2 id="h-attempts">Attempts</h2>
<div class="scroll"><table class="list"><thead><tr><th>Attempt</th><th>State</th><th>Started</th><th class="number">Took</th><th>Outcome</th><th>Log</th></tr></thead><tbody>
% for one in attempts:
<tr><td>{{one.number}}</td><td>\\
% if one.state:
<span class="state state-{{one.state}}">{{one.state}}</span>\\
% end
</td><td class="when"><time datetime="{{words.stamp(one.started)}}">{{words.moment(one.started)}}</time></td><td class="number">\\
% if is_active and one.number == row.attempt and one.started == row.started and row.started:
<span data-since="{{f"{row.started:.1f}"}}">{{one.took}}</span>\\
% else:
{{one.took}}\\
% end
</td><td class="text">{{one.outcome}}</td><td>\\
% if one.log:
<a href="{{job}}{{"" if one.log == "process.log" else f"?log={one.log}"}}#log">{{one.log}}</a>\\
% end
</td></tr>
% end
</tbody></table></div>
</section>
% end
</div>

<div class="grid">
<section class="panel" aria-labelledby="h-file">
% if job_file is not None:
<h2 id="h-file">Job file <a class="mono" href="{{job}}/files/{{words.path_part(job_file[0])}}">{{job_file[0]}}</a></h2>
<pre class="job-file" tabindex="0" role="region" aria-label="Text of the job file">{{job_file[1]}}</pre>
% else:
<h2 id="h-file">Script</h2>
% if script:
<pre class="job-file" tabindex="0" role="region" aria-label="Text of the job file">{{script}}</pre>
% else:
<p class="muted">There is no job file.</p>
% end
% end
</section>
<section class="panel" aria-labelledby="h-files">
<div class="row spread"><h2 id="h-files">Files</h2>
<div class="row"><a class="button" href="{{job}}/files/">Browse</a> <a class="button" href="{{job}}/zip" download>Download all (zip)</a></div></div>
<div data-live="job-files">
% if files.entries:
<div class="scroll"><table class="list"><thead><tr><th>Name</th><th class="number">Size</th><th>Changed</th></tr></thead><tbody>
% for entry in files.entries:
<tr><td class="text">\\
% if entry.kind in ("folder", "file"):
<a href="{{job}}/files/{{words.path_part(entry.name)}}{{"/" if entry.kind == "folder" else ""}}">{{words.printable(entry.name)}}{{"/" if entry.kind == "folder" else ""}}</a>\\
% else:
{{words.printable(entry.name)}} <span class="muted">{{entry.kind}}{{f" to {words.printable(entry.target)}" if entry.target else ""}}</span>\\
% end
</td><td class="number">{{words.size_text(entry.size) if entry.kind == "file" else ""}}</td><td class="when"><time datetime="{{words.stamp(entry.mtime)}}">{{words.short(entry.mtime, now)}}</time></td></tr>
% end
</tbody></table></div>
% if files.more:
<p><a href="{{job}}/files/">{{files.more}} more</a></p>
% end
% else:
<p class="muted">The folder is empty, or cannot be read.</p>
% end
</div>
</section>
</div>
% else:
<p class="muted">Files, log and record are not shown here: Display_details is off in QMserv.cfg.</p>
% end
