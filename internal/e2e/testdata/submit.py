"""Submits a message by Python's mail library to each of two ports, STARTTLS and
implicit TLS: submit.py HOST:PORT HOST:PORT USER PASSWORD RECIPIENT."""
import base64
import smtplib
import ssl
import sys
from email.message import EmailMessage

starttls, implicit, user, password, recipient = sys.argv[1:]
tls = ssl.create_default_context()
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE


def submit(s):
    s.ehlo("client.example.org")
    assert s.has_extn("auth") and s.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"], s.esmtp_features
    s.login(user, password)
    m = EmailMessage()
    m["From"] = user if "@" in user else user + "@example.test"
    m["To"] = recipient
    m["Subject"] = "from python"
    m.set_content("submitted\n")
    s.send_message(m)


host, port = starttls.split(":")
with smtplib.SMTP(host, int(port), timeout=30) as s:
    s.ehlo()
    assert not s.has_extn("auth"), "AUTH is offered in clear text"
    code, text = s.docmd("AUTH", "PLAIN AGEAYg==")
    assert code == 538, (code, text)
    s.starttls(context=tls)
    s.ehlo()
    code, text = s.docmd("AUTH", "PLAIN " + base64.b64encode(b"\0" + user.encode() + b"\0guess").decode())
    assert code == 535, (code, text)
    submit(s)
if implicit:
    host, port = implicit.split(":")
    with smtplib.SMTP_SSL(host, int(port), timeout=30, context=tls) as s:
        submit(s)
