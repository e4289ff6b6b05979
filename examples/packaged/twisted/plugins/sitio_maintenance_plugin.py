"""Announces `--policy maintenance:file=PATH` without importing the policy."""

from sitio.policy.maker import PolicyMaker

maintenance = PolicyMaker(
    "maintenance",
    "sitio_maintenance",
    "maintenance:file=PATH[:retry-after=SECONDS]  answer 503 while the file exists",
)
