"""
Configuration files.
"""

#: A file with each table.
WHOLE = """\
workers = 2
worker-timeout = "15s"
stats-interval = 0
access-log = "json:logs/access.log"
access-log-query = true
log-level = "debug"
log-format = "json"
fleet = "http://dashboard:8080"
policies = ["error-page:404", { name = "last-good", max-age = "60s" }]
templates = ["/files/{path...}"]

[listener]
address = 8443
[listener.tls]
certificate = "tls.crt"
key = "/etc/tls.key"
client-ca = "ca.crt"
client-certificate = "optional"
minimum = "1.3"
more = [{ certificate = "b.crt", key = "b.key" }]

[admin]
address = 9901
probes = ":9902"
hosts = ["sitio.example.com"]
health-path = "/healthz"

[limits]
response-timeout = "30s"
max-head = "64KiB"
pool-queue = 0

[forwarded]
mode = "replace"
style = "both"
trusted = ["10.0.0.0/8", "unix"]
via = true
keep-underscores = true

[upstreams.photos]
address = "https://photos.example"
host = "client"
slow-start = "30s"
forwarded = true
[upstreams.photos.tls]
verify = false
name = "photos"
[upstreams.photos.retries]
budget = "10%"
per-try-timeout = "2s"
[upstreams.photos.ejection]
consecutive = 3
max-share = 0.3

[upstreams.canary]
endpoints = ["10.0.0.1:8087", { address = "10.0.0.2:8087", weight = 2 }]
balance = "hash"
hash-on = "cookie:session"
health = { path = "/healthz", interval = "5s" }

[upstreams.names]
dns = "photos.default.svc:8087"
proxy-protocol = "v2"
resolve = { floor = 2, servers = "10.0.0.10" }

[[routes]]
name = "users"
host = "API.example.com"
path = "/users/{id}"
methods = "GET"
fields = { X-Beta = "1", X-Debug = false }
query = { v = "2" }
upstreams = { photos = 90, canary = 10 }
sticky = "cookie:group"
rewrite = "/v2/{id}"
policies = "error-page:5xx"
host-for-upstream = "api.example"
limits = { response-timeout = "5s", max-body = "1MiB" }

[[routes]]
prefix = "/api"
strip-prefix = "/api"
upstream = "names"
"""

#: A file of one listener and one upstream.
FILE = """\
workers = 2
stats-interval = 5
access-log = "json"
fleet = "http://dashboard"
policies = ["retry"]
templates = ["/a/{b}"]
[listener]
address = "127.0.0.1:8443"
[admin]
address = 9999
probes = 9998
hosts = ["a.example"]
health-path = "/up"
[limits]
grace = "7s"
max-head = 5000
[forwarded]
mode = "replace"
trusted = "10.0.0.0/8"
via = true
[upstream]
address = "photos:80"
slow-start = 5
"""
