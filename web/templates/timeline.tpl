% rebase("layout.tpl", title="Timeline", here="timeline", scripts=["timeline.js"])
<div class="row spread">
<h1>What ran in the last {{choices.get(hours, f"{hours} hours")}}</h1>
<nav class="tabs" aria-label="How long">
% for value, text in choices.items():
<a href="{{root}}/timeline?hours={{value}}"\\
% if value == hours:
 aria-current="page"\\
% end
>{{text}}</a>
% end
</nav>
</div>
<section data-live="timeline">
{{!drawn}}
</section>
