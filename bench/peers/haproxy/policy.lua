-- HAProxy's policies.
package.path = package.path .. ";/usr/share/lua/5.3/?.lua"

core.register_action("refuse", {"http-req"}, function(txn)
  local agent = txn.sf:req_fhdr("user-agent")
  if agent and string.find(agent, "robot", 1, true) then
    local reply = txn:reply({status = 403})
    txn:done(reply)
  end
end)

core.register_action("mark", {"http-res"}, function(txn)
  txn.http:res_set_header("X-Passed", "policy")
end)

core.register_action("wait", {"http-req"}, function() core.yield() end)

local Rewrite = {id = "rewrite JSON", flags = filter.FLT_CFG_FL_HTX}
Rewrite.__index = Rewrite

function Rewrite:new() return setmetatable({}, Rewrite) end

function Rewrite:http_headers(txn, message)
  if not message.channel:is_resp() then return end
  if txn.f:res_hdr("content-type") == "application/json" then
    for _, name in ipairs({"content-length", "etag", "last-modified"}) do
      message:del_header(name)
    end
    message:set_header("transfer-encoding", "chunked")
    filter.register_data_filter(self, message.channel)
  end
end

function Rewrite:http_payload(txn, message)
  -- The body stays in HAProxy's buffer until it is whole.
  if not message:eom() then return 0 end
  local json = require("dkjson")
  local document = json.decode(message:body())
  document.passed = true
  message:set(json.encode(document))
end

core.register_filter("rewrite", Rewrite, function(self) return self end)
