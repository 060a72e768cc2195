"""What a node can be told: one typed model, read from flags, environment and file, and checked once at the start."""

from gopher_node.settings.kinds import Duration
from gopher_node.settings.layers import Setting
from gopher_node.settings.metrics import MetricsSettings
from gopher_node.settings.model import (
    SETTINGS,
    Described,
    FilesSettings,
    JobLines,
    LogFormat,
    LogLevel,
    LogSettings,
    PaymentSettings,
    RedisSettings,
    RetentionSettings,
    ServerSettings,
    Settings,
    SmtpSettings,
    WebhookSettings,
    WorkerSettings,
)
from gopher_node.settings.push import PushTarget
from gopher_node.settings.tracing import TracingSettings

__all__ = [
    "SETTINGS",
    "Described",
    "Duration",
    "FilesSettings",
    "JobLines",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "MetricsSettings",
    "PaymentSettings",
    "PushTarget",
    "RedisSettings",
    "RetentionSettings",
    "ServerSettings",
    "Setting",
    "Settings",
    "SmtpSettings",
    "TracingSettings",
    "WebhookSettings",
    "WorkerSettings",
]
