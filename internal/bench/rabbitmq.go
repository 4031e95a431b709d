package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mailraft/internal/fixedport"
)

// ErrNoRabbitMQ says that RabbitMQ is not installed.
var ErrNoRabbitMQ = errors.New("no RabbitMQ to compare with")

const rabbitServer = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// Each node finds the others in this list; the host's own RabbitMQ, its
// configuration and its epmd are left alone.
const rabbitConf = `cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = rival1@localhost
cluster_formation.classic_config.nodes.2 = rival2@localhost
cluster_formation.classic_config.nodes.3 = rival3@localhost
`

// startRabbitMQ runs three nodes. A quorum queue confirms a message when it is
// synced at a majority.
func startRabbitMQ(ctx context.Context, rival string, wrap []string, dir string) (*system, error) {
	if _, err := os.Stat(rabbitServer); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRabbitMQ, err)
	}
	for name, text := range map[string]string{"rabbitmq.conf": rabbitConf, "plugins": "[].\n", ".erlang.cookie": strings.Repeat("rival", 4)} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o400)); err != nil {
			return nil, fmt.Errorf("lay out RabbitMQ: %w", err)
		}
	}
	addrs := make([]string, 1+2*rivalNodes)
	for i := range addrs {
		var err error
		if addrs[i], err = fixedport.Addr(); err != nil {
			return nil, err
		}
	}
	var nodes []*child
	_, port, _ := net.SplitHostPort(addrs[0])
	names, err := startTermed(filepath.Join(dir, "output"), nil, nil, "/usr/bin/epmd", "-address", "127.0.0.1", "-port", port)
	if err != nil {
		return nil, fmt.Errorf("start epmd: %w", err)
	}
	nodes = append(nodes, names)
	var urls []string
	for i := range rivalNodes {
		c, err := startTermed(filepath.Join(dir, "output"), rabbitEnv(dir, port, i+1, addrs[1+2*i], addrs[2+2*i]), wrap, rabbitServer)
		if err != nil {
			stopAll(nodes)
			return nil, fmt.Errorf("start a node of RabbitMQ: %w", err)
		}
		nodes = append([]*child{c}, nodes...) // epmd ends last
		urls = append(urls, "amqp://guest:guest@"+addrs[1+2*i]+"/")
	}
	if err := clustered(ctx, dir, port); err != nil {
		stopAll(nodes)
		return nil, err
	}
	return withPublisher("RabbitMQ", rival, "rabbitmq", strings.Join(urls, ","), filepath.Join(dir, "output"), nodes)
}

func rabbitEnv(dir, epmd string, i int, client, dist string) []string {
	n := fmt.Sprint(i)
	_, port, _ := net.SplitHostPort(client)
	_, distPort, _ := net.SplitHostPort(dist)
	return append(os.Environ(), "HOME="+dir, "ERL_EPMD_PORT="+epmd, "ERL_EPMD_ADDRESS=127.0.0.1", "RABBITMQ_NODENAME=rival"+n+"@localhost",
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT="+port, "RABBITMQ_DIST_PORT="+distPort,
		"RABBITMQ_MNESIA_BASE="+filepath.Join(dir, n), "RABBITMQ_LOG_BASE="+filepath.Join(dir, "log"+n), "RABBITMQ_PID_FILE="+filepath.Join(dir, "pid"+n),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "plugins"), "RABBITMQ_CONFIG_FILE="+filepath.Join(dir, "rabbitmq.conf"),
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}")
}

// startTermed starts a process that is ended by SIGTERM.
func startTermed(log string, env, wrap []string, name string, args ...string) (*child, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := &child{Cmd: command(wrap, name, args...)}
	c.Env, c.Stdout, c.Stderr = env, f, f
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return c, c.Start()
}

// clustered waits until the three nodes are one cluster.
func clustered(ctx context.Context, dir, epmd string) error {
	env := rabbitEnv(dir, epmd, 1, "127.0.0.1:0", "127.0.0.1:0")
	var out []byte
	for began := time.Now(); time.Since(began) < time.Minute; {
		cmd := exec.CommandContext(ctx, "/usr/lib/rabbitmq/bin/rabbitmqctl", "-q", "await_online_nodes", fmt.Sprint(rivalNodes), "-t", "20")
		cmd.Env = env
		var err error
		if out, err = cmd.CombinedOutput(); err == nil {
			return nil
		}
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("wait for the nodes of RabbitMQ: %s", out)
}
