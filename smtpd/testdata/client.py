"""A foreign client: python3 client.py HOST:PORT HOST:PORT-OF-TLS"""
import smtplib
import ssl
import sys

context = ssl._create_unverified_context()


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


with smtplib.SMTP(*address(sys.argv[1]), timeout=10) as s:
    s.sendmail("a@b.example", ["c@example.org"], "Subject: plain\r\n\r\nx\r\n")
    s.starttls(context=context)
    refused = s.sendmail("a@b.example", ["no@example.org", "d@example.org"], "Subject: starttls\n\n.dot\n" + "x" * 5000 + "\n")
    assert refused["no@example.org"][0] == 550, refused
    s.sendmail("jörg@b.example", ["jörg@example.org"], "Subject: grüße\r\n\r\nx\r\n".encode(), mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    assert s.docmd("NOOP", "y" * 3000)[0] == 500
    try:
        s.sendmail("a@b.example", ["c@example.org"], "y" * 2_000_000)
    except smtplib.SMTPSenderRefused as e:
        assert e.smtp_code == 552, e
    else:
        raise AssertionError("too large, and accepted")

with smtplib.SMTP_SSL(*address(sys.argv[2]), context=context, timeout=10) as s:
    s.sendmail("a@b.example", ["c@example.org"], "Subject: implicit\r\n\r\nx\r\n")
