% include("status.tpl")
% include("tables.tpl")
