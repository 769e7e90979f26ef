% rebase("layout.tpl", title=f"{running.total} running, {waiting.total} waiting", here="overview", scripts=["actions.js"])
<h1 class="hidden-visually">The queue</h1>
% include("status.tpl")
<form class="panel row end" method="get" action="{{root}}/" role="search" aria-label="Filter the jobs">
% if web.display_details:
<div class="field"><label for="q">Text</label><input id="q" name="q" type="search" size="18" value="{{asked["q"]}}" placeholder="name, id, description"></div>
% end
<div class="field"><label for="state">State</label><select id="state" name="state">
<option value="">all</option>
% for word, text in (("active", "active"), ("waiting", "waiting"), ("ended", "finished"), ("failures", "finished, not done")):
<option value="{{word}}"\\
% if asked["state"] == word:
 selected\\
% end
>{{text}}</option>
% end
% for word in asked["states"]:
<option\\
% if asked["state"] == word:
 selected\\
% end
>{{word}}</option>
% end
</select></div>
% if asked["owners"]:
<div class="field wide"><label for="owner">Owner</label><select id="owner" name="owner">
<option value="">all</option>
% for word in asked["owners"]:
<option\\
% if asked["owner"] == word:
 selected\\
% end
>{{words.printable(word)}}</option>
% end
</select></div>
% end
<div class="field wide"><label for="since">From</label><input id="since" name="since" type="date" value="{{asked["since"]}}"></div>
<div class="field wide"><label for="until">To</label><input id="until" name="until" type="date" value="{{asked["until"]}}"></div>
<div class="row"><button class="main">Filter</button>
% if filtered:
<a class="button" href="{{root}}/">Show all</a>
% end
</div>
</form>
% include("tables.tpl")
% if may["operate"]:
<form id="queue" method="post" action="{{root}}/action"><input type="hidden" name="csrf" value="{{visitor.csrf}}"><input type="hidden" name="back" value="{{root}}/"></form>
<form class="panel bulk row" id="bulk" method="post" action="{{root}}/action" aria-label="What to do with the chosen jobs">
<input type="hidden" name="csrf" value="{{visitor.csrf}}">
<input type="hidden" name="back" value="{{root}}/{{link()}}">
<span id="chosen" class="muted">Chosen jobs:</span>
<button name="verb" value="hold">Hold</button>
<button name="verb" value="release">Release</button>
<button name="verb" value="pause">Pause</button>
<button name="verb" value="resume">Resume</button>
<button name="verb" value="retry">Retry</button>
% if may["kill"]:
<button name="verb" value="kill" class="danger">Kill</button>
% end
% if may["delete"]:
<button name="verb" value="delete" class="danger">Delete</button>
% end
</form>
<dialog id="sure" aria-labelledby="sure-title"><form method="dialog">
<h2 id="sure-title"></h2>
<p id="sure-text"></p>
<ul id="sure-list"></ul>
<div class="row"><button class="danger" value="yes" id="sure-yes"></button><button value="" autofocus>Cancel</button></div>
</form></dialog>
% end
