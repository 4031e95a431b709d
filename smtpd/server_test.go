package smtpd

import "testing"

func TestFirstMessage(t *testing.T) {
	q := &queue{}
	_, addr, _ := start(t, testConfig(q))
	p := dial(t, addr)
	p.send(hello + envelope + "DATA\r\n")
	t.Log(p.want("250"), p.want("250"), p.want("250"), p.want("354"))
	p.send("Subject: x\r\n\r\n..dot\r\n.\r\n")
	t.Log(p.want("250"))
	p.send(envelope + bdat(3, "") + "a\r\n" + bdat(3, " LAST") + "b\r\n" + "QUIT\r\n")
	t.Log(p.want("250"), p.want("250"), p.want("250"), p.want("250"), p.want("221"))
	t.Logf("%+v", q.take())
}
