% word = verb.capitalize()
% rebase("layout.tpl", title=f"{word} {counted}?", here="")
<h1>{{word}} {{counted}}?</h1>
<div class="panel">
<p>{{meaning}}</p>
<ul>
% for row in jobs[:most]:
<li><a href="{{root}}/job/{{row.key}}"><bdi>{{words.printable(row.name)}}</bdi></a> <span class="state state-{{row.state}}">{{row.state}}</span> <span class="muted mono">{{row.id or words.printable(f"{row.place}/{row.folder}")}}</span></li>
% end
% if len(jobs) > most:
<li class="muted">and {{len(jobs) - most}} more</li>
% end
</ul>
<form method="post" action="{{root}}/action" class="row">
<input type="hidden" name="csrf" value="{{visitor.csrf}}">
<input type="hidden" name="verb" value="{{verb}}">
<input type="hidden" name="confirm" value="1">
<input type="hidden" name="back" value="{{back}}">
% for row in jobs:
<input type="hidden" name="key" value="{{row.key}}">
% end
<button class="danger">{{word}} {{counted}}</button>
<a class="button" href="{{back}}">Cancel</a>
</form>
</div>
