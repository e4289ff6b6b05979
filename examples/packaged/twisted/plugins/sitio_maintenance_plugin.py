"""What makes `--policy maintenance:file=PATH` known, without importing it before it is named."""

from sitio.policy.maker import PolicyMaker

maintenance = PolicyMaker(
    "maintenance",
    "sitio_maintenance",
    "maintenance:file=PATH[:retry-after=SECONDS]  answer 503 while the file exists",
)
