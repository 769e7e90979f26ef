% rebase("layout.tpl", title=f"{words.printable(row.name)}: {trail[-1][0]}", here="job")
% include("trail.tpl")
% here = trail[-1][1]
% raw = trail[0][1].removesuffix("files/") + "raw" + here[len(trail[0][1]) - 1:]
% limit = words.size_text(most)
<section class="panel" aria-labelledby="h-file">
<div class="row spread">
<h1 id="h-file" class="plain mono">{{trail[-1][0]}}</h1>
% if kind != "link":
<div class="row">
<span class="muted">{{words.size_text(entry.size)}}, changed <time datetime="{{words.stamp(entry.mtime)}}">{{words.moment(entry.mtime)}}</time></span>
<a class="button" href="{{root}}{{raw}}" download>Download</a>
</div>
% end
</div>
% if kind == "link":
<p>This is a link to <span class="mono">{{words.printable(entry.target)}}</span>. Links are not followed here.</p>
% elif kind == "picture":
<p class="picture"><a href="{{root}}{{raw}}"><img src="{{root}}{{raw}}" alt="{{trail[-1][0]}}"></a></p>
% elif kind == "large picture":
<p class="muted">This picture is too large to be shown in the page.</p>
% elif kind == "binary":
<p class="muted">This is no text and no picture that can be shown.</p>
% elif not text:
<p class="muted">The file is empty.</p>
% else:
%     if entry.size > most:
<p class="row"><span>{{"The last" if end else "The first"}} {{limit}} are shown.</span> <a href="{{root}}{{here}}{{"" if end else "?end=1"}}">Show the {{"first" if end else "last"}} {{limit}}</a></p>
%     end
<pre class="log" tabindex="0" aria-label="Contents">{{"\n" + text}}</pre>
% end
</section>
