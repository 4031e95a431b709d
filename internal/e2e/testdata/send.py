"""Sends one message by Python's mail library: send.py HOST PORT RECIPIENT."""
import smtplib
import sys
from email.message import EmailMessage
from email.utils import make_msgid

host, port, recipient = sys.argv[1:]
m = EmailMessage()
m["From"] = "s@example.org"
m["To"] = recipient
m["Subject"] = "Grüße"
m["Message-ID"] = make_msgid(domain="example.org")
m.set_content("from python\n.\n..dots\n" + "x" * 900 + "\n")
m.add_attachment(bytes(range(256)) * 400, maintype="application", subtype="octet-stream", filename="all.bin")
with smtplib.SMTP(host, int(port), timeout=60) as s:
    s.ehlo("client.example.org")
    for extension in ("size", "pipelining", "8bitmime", "chunking", "smtputf8", "enhancedstatuscodes"):
        assert s.has_extn(extension), extension
    s.send_message(m)
