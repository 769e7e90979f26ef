% rebase("layout.tpl", title=status, here="")
<h1>{{status}}</h1>
<p class="panel">{{message}}</p>
<p><a href="{{root}}/">To the queue</a></p>
