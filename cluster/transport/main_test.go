package transport

import (
	"testing"

	"mailraft/cluster/port/porttest"
)

func TestMain(m *testing.M) { porttest.Main(m) }
