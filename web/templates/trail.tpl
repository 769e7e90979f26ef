<nav aria-label="Where this lies" class="trail">
<a href="{{root}}/job/{{words.path_part(row.key)}}">{{words.printable(row.name)}}</a>
% for text, address in trail[:-1]:
<span aria-hidden="true">/</span> <a href="{{root}}{{address.rstrip("/")}}/">{{text}}</a>
% end
<span aria-hidden="true">/</span> <span aria-current="page">{{trail[-1][0]}}</span>
</nav>
