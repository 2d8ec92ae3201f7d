"""Alerts: what failed, recovered or succeeded is told once to each channel, whichever process finds it out."""

from pipeline.alerts.book import AlertBook
from pipeline.alerts.messages import Message
from pipeline.alerts.news import News, Status, Subject
from pipeline.alerts.webhook import post

__all__ = ["AlertBook", "Message", "News", "Status", "Subject", "post"]
