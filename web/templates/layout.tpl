<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="csrf" content="{{visitor.csrf}}">
<meta name="root" content="{{root}}">
<title>{{title}} - QM</title>
<link rel="icon" href="{{root}}/static/qm.svg" type="image/svg+xml">
<link rel="stylesheet" href="{{root}}/static/qm.css">
% for sheet in get("sheets", ()):
<link rel="stylesheet" href="{{root}}/static/{{sheet}}">
% end
% for script in ("time.js", "refresh.js", *get("scripts", ())):
<script type="module" src="{{root}}/static/{{script}}"></script>
% end
</head>
<body data-refresh="{{f"{web.refresh_rate:g}"}}" data-now="{{f"{now:.1f}"}}">
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
<a class="brand" href="{{root}}/">QM</a>
<nav aria-label="Pages">
% for word, address, text in (("overview", "/", "Queue"), ("submit", "/submit", "Submit"), ("timeline", "/timeline", "Timeline"), ("statistics", "/statistics", "Statistics")):
<a href="{{root}}{{address}}"\\
% if here == word:
 aria-current="page"\\
% end
>{{text}}</a>
% end
</nav>
<div class="who">
% if visitor.role:
<span class="spool" title="{{words.printable(site.settings.folder)}}"><bdi>{{words.printable(site.settings.folder)}}</bdi></span>
% end
% if visitor.name:
<span>{{words.printable(visitor.name)}}</span>
<form method="post" action="{{root}}/logout"><input type="hidden" name="csrf" value="{{visitor.csrf}}"><button>Log out</button></form>
% elif web.users_file:
<a href="{{root}}/login">Log in</a>
% end
</div>
</header>
<main id="main">
% note = said()
% if note:
<p class="notice" role="status">{{note}}</p>
% end
{{!base}}
</main>
<div class="said" role="status" aria-live="polite" id="said"></div>
</body>
</html>
