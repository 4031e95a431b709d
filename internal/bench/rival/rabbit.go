package main

import (
	"context"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// rabbitConnections is how many connections the publishers share; each has a
// channel of its own.
const rabbitConnections = 6

const queueName = "mail"

// rabbit is a quorum queue, which RabbitMQ puts on three nodes.
type rabbit struct {
	urls     []string
	conns    []*amqp.Connection
	channels []*amqp.Channel
}

var errNack = errors.New("not taken (nack)")

func (r *rabbit) Open(sessions int) (func(int, []byte) error, error) {
	for i := len(r.conns); i < min(sessions, rabbitConnections); i++ {
		c, err := amqp.Dial(r.urls[i%len(r.urls)])
		if err != nil {
			return nil, fmt.Errorf("connect to RabbitMQ: %w", err)
		}
		r.conns = append(r.conns, c)
	}
	for i := range sessions {
		ch, err := r.conns[i%len(r.conns)].Channel()
		if err != nil {
			return nil, err
		}
		r.channels = append(r.channels, ch)
		if err := ch.Confirm(false); err != nil {
			return nil, err
		}
	}
	if _, err := r.channels[0].QueueDeclare(queueName, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
		return nil, fmt.Errorf("make a queue: %w", err)
	}
	channels := r.channels
	return func(n int, body []byte) error {
		sent, err := channels[n].PublishWithDeferredConfirm("", queueName, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if ok, err := sent.WaitContext(ctx); err != nil || !ok {
			return errors.Join(err, errNack)
		}
		return nil
	}, nil
}

func (r *rabbit) Drop() error {
	_, err := r.channels[0].QueueDelete(queueName, false, false, false)
	for _, ch := range r.channels {
		err = errors.Join(err, ch.Close())
	}
	r.channels = nil
	return err
}
