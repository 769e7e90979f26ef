<!DOCTYPE html>
<html lang="en">
% refresh = max(1, round(settings.web.refresh_rate))
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="{{refresh}}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{len(running)}} running, {{number_waiting}} waiting - QM</title>
<link rel="stylesheet" href="/static/qm.css">
</head>
<body>
<header>
<h1>QM</h1>
<p>{{printable(settings.folder)}}, {{clock(now)}}</p>
</header>
% details = settings.web.display_details

<h2>Running ({{len(running)}})</h2>
% if running:
<table>
<tr><th>job</th><th>id</th><th>state</th><th>progress</th><th>processors</th><th>started</th>\\
% if details:
<th>owner</th><th>description</th>\\
% end
</tr>
% for job in running:
<tr><td class="text">{{printable(job.name)}}</td><td><code>{{job.id}}</code></td><td>{{job.state}}</td>
<td class="text">\\
% if job.progress is not None:
<progress max="1" value="{{job.progress}}"></progress> {{f"{job.progress:.0%}"}} \\
% end
{{printable(job.progress_text)}}</td>
<td>{{job.nb_proc or ""}}</td><td>{{clock(job.started)}}</td>\\
% if details:
<td>{{job.owner}}</td><td class="text">{{printable(job.info)}}</td>\\
% end
</tr>
% end
</table>
% else:
<p>No job is running.</p>
% end

<h2>Waiting ({{number_waiting}}\\
% if number_waiting > len(waiting):
, the next {{len(waiting)}} here\\
% end
)</h2>
% if waiting:
<table>
<tr><th>job</th><th>id</th><th>state</th><th>processors</th><th>submitted</th>\\
% if details:
<th>owner</th><th>description</th>\\
% end
</tr>
% for job in waiting:
<tr><td class="text">{{printable(job.name)}}</td><td><code>{{job.id}}</code></td><td>{{job.state}}</td>
<td>{{job.nb_proc or ""}}</td><td>{{clock(job.submitted)}}</td>\\
% if details:
<td>{{job.owner}}</td><td class="text">{{printable(job.info)}}</td>\\
% end
</tr>
% end
</table>
% else:
<p>No job is waiting. Copy a job folder into {{printable(settings.folder)}}/QM_qJobs, and it runs.</p>
% end

<h2>Ended ({{number_ended}}\\
% if number_ended > len(ended):
, the newest {{len(ended)}} here\\
% end
)</h2>
% if ended:
<table>
<tr><th>job</th><th>id</th><th>state</th><th>finished</th><th>folder</th>\\
% if details:
<th>owner</th><th>reason</th>\\
% end
</tr>
% for job in ended:
<tr><td class="text">{{printable(job.name)}}</td><td><code>{{job.id}}</code></td><td class="{{job.state}}">{{job.state}}</td>
<td>{{clock(job.finished)}}</td><td class="text">{{printable(job.path)}}</td>\\
% if details:
<td>{{job.owner}}</td><td class="text">{{printable(job.reason)}}</td>\\
% end
</tr>
% end
</table>
% else:
<p>No job has ended yet.</p>
% end

<h2>Log</h2>
<pre>
% for line in log:
{{printable(line)}}
% end
</pre>
</body>
</html>
