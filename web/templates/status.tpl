<section class="panel" data-live="status" aria-label="Daemon and machine">
<div class="status">
<div><div class="what">QueueManager</div><div class="value">\\
% if daemon is None:
<span class="dead">not running</span> <span class="muted">nothing is started until it is</span>\\
% else:
<span class="alive">running</span> <span class="muted">since {{words.short(daemon.started, now)}} on {{words.printable(daemon.host)}}</span>\\
% end

% if may["operate"]:
% if draining:
<strong class="warn">draining: no job is started</strong> <button form="queue" name="verb" value="undrain">Start jobs again</button>
% else:
<button class="small" form="queue" name="verb" value="drain" title="What runs goes on; no other job is started">Drain</button>
% end
% elif draining:
<strong class="warn">draining: no job is started</strong>
% end
</div></div>
<div><div class="what" id="m-jobs">Processors of jobs</div><div class="value">{{used.processors}} of {{limits.processors}} in use\\
% if used.memory:
<span class="muted">, {{words.size_text(used.memory)}} of {{words.size_text(limits.memory)}} memory asked for</span>\\
% end
% if limits.gpus:
<span class="muted">, {{used.gpus}} of {{limits.gpus}} GPUs</span>\\
% end
</div><meter aria-labelledby="m-jobs" max="{{limits.processors}}" value="{{min(used.processors, limits.processors)}}"></meter></div>
<div><div class="what" id="m-cpu">Machine ({{machine.processors}} processors)</div><div class="value">{{words.percent(machine.cpu)}} busy\\
% if machine.load is not None:
, load {{machine.load}}\\
% end
</div><meter aria-labelledby="m-cpu" max="1" value="{{f"{machine.cpu:.2f}"}}"></meter></div>
<div><div class="what" id="m-memory">Memory</div><div class="value">{{words.size_text(machine.memory_used)}} of {{words.size_text(machine.memory_total)}}</div><meter aria-labelledby="m-memory" max="{{machine.memory_total}}" high="{{int(machine.memory_total * 0.9)}}" value="{{machine.memory_used}}"></meter></div>
<div><div class="what" id="m-disk">Disk of the spool</div><div class="value">{{words.size_text(machine.disk_free)}} free</div><meter aria-labelledby="m-disk" max="{{max(1, machine.disk_total)}}" high="{{int(machine.disk_total * 0.9)}}" value="{{machine.disk_total - machine.disk_free}}"></meter></div>
</div>
% if disk_short:
<p class="notice warn">No job is started: {{words.printable(disk_short)}}.</p>
% end
% if reading is not None:
<p class="muted">Reading the folders for the first time: {{words.percent(reading)}}. The newest jobs come first.</p>
% end
</section>
