"""DSN parameters and reports by Python's libraries.

dsn.py send HOST PORT SENDER RECIPIENT=NOTIFY... sends one message.
dsn.py read < REPORT prints what it tells, a line for each recipient.
"""
import email
import email.policy
import smtplib
import sys

if sys.argv[1] == "send":
    host, port, sender = sys.argv[2:5]
    with smtplib.SMTP(host, int(port), timeout=60) as s:
        s.ehlo("client.example.org")
        assert s.has_extn("dsn")
        code, text = s.mail(sender, ["ENVID=QQ+2B1", "RET=FULL"])
        assert code == 250, text
        for arg in sys.argv[5:]:
            to, notify = arg.split("=")
            code, text = s.rcpt(to, ["NOTIFY=" + notify, "ORCPT=rfc822;was+2B" + to])
            assert code == 250, text
        code, text = s.data("Subject: told\r\nMessage-ID: <told@example.org>\r\n\r\nthe body\r\n")
        assert code == 250, text
else:
    m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
    assert m.get_content_type() == "multipart/report" and m.get_param("report-type") == "delivery-status", m.get_content_type()
    assert m["Auto-Submitted"] == "auto-replied" and m["Return-Path"] == "<>", m.items()
    assert not [d for part in m.walk() for d in part.defects]
    text, status, original = m.iter_parts()
    whole, *recipients = status.get_payload()
    assert whole["Original-Envelope-Id"] == "QQ+1", whole.items()
    for r in recipients:
        print(r["Action"], r["Status"], r["Final-Recipient"], r["Original-Recipient"], original.get_content_type())
