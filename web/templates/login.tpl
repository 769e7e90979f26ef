% rebase("layout.tpl", title="Log in", here="login")
<h1>Log in</h1>
% if message:
<p class="notice bad" role="alert" id="wrong">{{message}}</p>
% end
% if not users:
<p class="panel">This dashboard has no users: it is for whoever started it, on the same machine.
<code>qm web adduser NAME</code> makes users.</p>
% elif visitor.name:
<div class="panel">
<p>You are logged in as {{words.printable(visitor.name)}}, with the role {{visitor.role.name.lower()}}.</p>
<form method="post" action="{{root}}/logout"><input type="hidden" name="csrf" value="{{visitor.csrf}}"><button>Log out</button></form>
</div>
% else:
<form class="panel login" method="post" action="{{root}}/login"\\
% if message:
 aria-describedby="wrong"\\
% end
>
<input type="hidden" name="csrf" value="{{visitor.csrf}}">
<input type="hidden" name="back" value="{{back}}">
<div class="field"><label for="name">Name</label>
<input id="name" name="name" value="{{words.printable(name)}}" autocomplete="username" autocapitalize="none" spellcheck="false" required maxlength="64"\\
% if not name:
 autofocus\\
% end
></div>
<div class="field"><label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required maxlength="1024"\\
% if name:
 autofocus\\
% end
></div>
<p><button class="main">Log in</button></p>
</form>
% end
