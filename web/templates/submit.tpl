% rebase("layout.tpl", title="Submit", here="submit", scripts=["submit.js"] if may["operate"] else [])
<h1>Submit a job</h1>
% if not may["operate"]:
<div class="panel">
%     if visitor.name:
<p>You are logged in as {{words.printable(visitor.name)}}, who may look but not submit: that needs the role operate.</p>
%     elif web.users_file:
<p>Submitting needs the role operate. <a href="{{root}}/login?back=/submit">Log in</a> as somebody who has it.</p>
%     else:
<p>You may look but not submit: that is for the user who started this dashboard, on the same machine, or for users who log in (<code>qm web adduser NAME</code> makes them).</p>
%     end
</div>
% else:
%     if error:
<p class="notice bad" role="alert">{{error}}</p>
%     end
%     if down:
<p class="notice warn">No QueueManager is running; jobs wait until one is started.</p>
%     end
<div class="grid">
<section class="panel" aria-labelledby="h-files" id="drop" data-most="{{web.max_upload}}">
<h2 id="h-files">A folder or an archive</h2>
<form method="post" action="{{root}}/submit" enctype="multipart/form-data" id="archive-form">
<input type="hidden" name="csrf" value="{{visitor.csrf}}">
<div class="drop-target">
<p class="only-scripted" hidden>Drop folders or archives anywhere on this page, or</p>
<div class="row">
<label class="button" for="archive">Choose archives</label>
<input type="file" id="archive" name="archive" accept="{{",".join((*suffixes, ".gz", ".bz2", ".xz"))}}" class="file">
<label class="button only-scripted" for="folder" hidden>Choose a folder</label>
<input type="file" id="folder" class="file" webkitdirectory hidden>
<button class="main without-script">Upload</button>
</div>
</div>
</form>
<ul id="uploads" class="uploads" aria-label="Uploads"></ul>
<p class="muted">A job is a folder with a job file: {{", ".join(job_files[:-1])}}{{" or " if len(job_files) > 1 else ""}}{{job_files[-1]}}.
Archives are .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz of at most {{words.size_text(web.max_upload)}}; unpacked, at most {{words.size_text(web.max_unpacked)}} in {{f"{web.max_files:,}"}} files.</p>
</section>

<section class="panel" aria-labelledby="h-command">
<h2 id="h-command">A command</h2>
<form method="post" action="{{root}}/submit" id="command-form">
<input type="hidden" name="csrf" value="{{visitor.csrf}}">
<div class="field"><label for="command">Command, or a whole shell script</label>
<textarea id="command" name="command" rows="6" required spellcheck="false" autocapitalize="none" aria-describedby="command-hint">{{"\n" + values.get("command", "")}}</textarea></div>
<p class="muted" id="command-hint">It runs in a folder of its own, by /bin/sh unless it begins with another #! line. Further options stand in lines at its top: <code>#QM env_NAME = value</code></p>
<div class="row end">
<div class="field"><label for="name">Name</label><input id="name" name="name" value="{{values.get("name", "")}}" placeholder="the program's" maxlength="200" spellcheck="false"></div>
<div class="field"><label for="nb_proc">Processors (of {{limit}})</label><input id="nb_proc" name="nb_proc" value="{{values.get("nb_proc", "")}}" placeholder="1" inputmode="numeric" size="8"></div>
<div class="field"><label for="mem">Memory</label><input id="mem" name="mem" value="{{values.get("mem", "")}}" placeholder="no limit, or 2G" size="14"></div>
<div class="field"><label for="priority">Priority</label><input id="priority" name="priority" value="{{values.get("priority", "")}}" placeholder="0" size="8"></div>
</div>
<div class="field"><label for="info">Description</label><input id="info" name="info" value="{{values.get("info", "")}}" placeholder="the command's first line" maxlength="1000"></div>
<p class="row spread"><label class="row"><input type="checkbox" name="hold" value="yes"\\
%     if values.get("hold"):
 checked\\
%     end
> Hold it, do not start it yet</label>
<button class="main">Submit the command</button></p>
</form>
</section>
</div>
% end
