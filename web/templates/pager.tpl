% if table.pages > 1:
<nav class="pager" aria-label="Pages of this list">
% if table.page > 1:
<a class="button" rel="prev" href="{{root}}/{{link(**{table.pager: table.page - 1 if table.page > 2 else ""})}}">Previous</a>
% end
<span class="muted">page {{table.page}} of {{table.pages}}</span>
% if table.page < table.pages:
<a class="button" rel="next" href="{{root}}/{{link(**{table.pager: table.page + 1})}}">Next</a>
% end
</nav>
% end
