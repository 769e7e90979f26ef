% rebase("layout.tpl", title=f"{words.printable(row.name)}: {trail[-1][0]}", here="job")
% include("trail.tpl")
<section class="panel" aria-labelledby="h-folder">
<div class="row spread">
<h1 id="h-folder" class="plain">{{trail[-1][0] if len(trail) > 1 else "Files of the job"}}</h1>
<a class="button" href="{{root}}/job/{{words.path_part(row.key)}}/zip" download>Download all as zip</a>
</div>
% if not lines:
<p class="muted">Nothing lies here.</p>
% else:
<div class="scroll">
<table class="list files">
<thead><tr><th scope="col">Name</th><th scope="col" class="number">Size</th><th scope="col" class="wide">Changed</th><th scope="col"><span class="hidden-visually">Download</span></th></tr></thead>
<tbody>
% base = trail[-1][1].rstrip("/")
% raw = trail[0][1].removesuffix("files/") + "raw" + base[len(trail[0][1]) - 1:]
% for line in lines:
%     entry, name = line.entry, words.printable(line.entry.name)
<tr>
<td class="text mono">\\
%     if entry.kind == "folder":
<a href="{{root}}{{base}}/{{line.part}}/">{{name}}/</a>\\
%     elif entry.kind == "file":
<a href="{{root}}{{base}}/{{line.part}}">{{name}}</a>\\
%     elif entry.kind == "link":
{{name}} <span class="muted">link to {{words.printable(entry.target)}}</span>\\
%     else:
{{name}} <span class="muted">a pipe, socket or device</span>\\
%     end
</td>
<td class="number">{{words.size_text(entry.size) if entry.kind == "file" else ""}}</td>
<td class="when wide"><time datetime="{{words.stamp(entry.mtime)}}">{{words.moment(entry.mtime)}}</time></td>
<td class="number">\\
%     if entry.kind == "file":
<a href="{{root}}{{raw}}/{{line.part}}" download>Download<span class="hidden-visually"> {{name}}</span></a>\\
%     end
</td>
</tr>
% end
</tbody>
</table>
</div>
% end
% if more:
<p class="muted">and {{more}} more, which are not listed; the zip has them.</p>
% end
</section>
