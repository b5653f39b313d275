// Misbehave is a line server that breaks on command. A line that is no command is answered "Echo: line",
// "PING" is answered "PONG". Lines of one connection are handled one after the other.
//
// Commands to one connection, sent as lines of it (port -data):
//
//	!silent          neither this line nor a later one is answered
//	!late MS TEXT    "Echo: TEXT" after MS milliseconds
//	!split MS TEXT   "Echo: TEXT" byte by byte, MS milliseconds apart
//	!half TEXT       the first half of "Echo: TEXT", then FIN
//	!double TEXT     "Echo: TEXT" twice, in one write
//	!bye TEXT        "Echo: TEXT", then FIN
//	!drop            FIN, no answer
//	!reset           RST, no answer
//	!stray MS        "OK", then MS milliseconds later one byte "?" that nobody asked for
//	!strayfin MS     the same, and FIN right after the byte
//	!garbage tls     a TLS alert
//	!garbage http    an HTTP response
//	!long N          a line of N bytes "x"
//	!deaf            nothing is read any more; the connection stays open
//	!ping MS         "OK", then MS milliseconds later "SPING"; the client should send "SPONG" (never answered)
//	!ping 0          "SPING" first, then "OK"
//	!ponged          "Ponged: N": how many SPONG this connection has sent
//
// Commands to the server, each answered with one line (port -control):
//
//	count            "open=N total=N": connections to -data that are open, and that were ever accepted
//	full on|off      while on, a new connection is accepted and closed at once
//	mute on|off      while on, nothing is answered on any connection
//	idle MS          connections that send nothing for MS milliseconds are closed, 0 turns it off
//	dropall          every open connection gets FIN
//	behave           full, mute and idle are off again
//	PING             "PONG"
//
// It logs one line, "ready", when both ports are open, and ends on SIGTERM.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is what the control port sees and sets.
type server struct {
	mu    sync.Mutex
	open  map[*peer]bool
	total int
	full  bool
	mute  bool
	idle  time.Duration
}

// peer is one connection to the data port.
type peer struct {
	conn   *net.TCPConn
	server *server
	gone   chan struct{} // closed when the connection is closed from this side
	once   sync.Once
	writes sync.Mutex
	silent bool
	ponged int
}

func main() {
	data := flag.String("data", ":7100", "address for clients")
	control := flag.String("control", ":7101", "address for commands to the server")
	flag.Parse()

	s := &server{open: map[*peer]bool{}}
	accept(*data, s.serve)
	accept(*control, s.control)
	log.SetFlags(0)
	log.Print("ready")

	// As process 1 of a container it has no default action for SIGTERM.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
}

func accept(address string, handle func(*net.TCPConn)) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go handle(conn.(*net.TCPConn))
		}
	}()
}

func (s *server) serve(conn *net.TCPConn) {
	p := &peer{conn: conn, server: s, gone: make(chan struct{})}
	s.mu.Lock()
	s.total++
	full := s.full
	if !full {
		s.open[p] = true
		p.watchIdle()
	}
	s.mu.Unlock()
	defer p.close()
	if full {
		return
	}
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		s.mu.Lock()
		p.watchIdle()
		s.mu.Unlock()
		if !p.handle(strings.TrimRight(line, "\r\n")) {
			return
		}
	}
}

// watchIdle starts the idle time anew. The server's lock is held.
func (p *peer) watchIdle() {
	if p.server.idle > 0 {
		p.conn.SetReadDeadline(time.Now().Add(p.server.idle))
	} else {
		p.conn.SetReadDeadline(time.Time{})
	}
}

func (p *peer) close() {
	p.once.Do(func() {
		close(p.gone)
		p.conn.Close()
		p.server.mu.Lock()
		delete(p.server.open, p)
		p.server.mu.Unlock()
	})
}

func (p *peer) write(text string) {
	p.server.mu.Lock()
	mute := p.server.mute
	p.server.mu.Unlock()
	if mute || p.silent {
		return
	}
	p.writes.Lock()
	defer p.writes.Unlock()
	p.conn.Write([]byte(text))
}

// later runs act after a time, unless the connection is closed before.
func (p *peer) later(milliseconds int, act func()) {
	go func() {
		if p.wait(milliseconds) {
			act()
		}
	}()
}

// wait returns false when the connection was closed meanwhile.
func (p *peer) wait(milliseconds int) bool {
	select {
	case <-time.After(time.Duration(milliseconds) * time.Millisecond):
		return true
	case <-p.gone:
		return false
	}
}

// handle does what one line asks for, and returns false when the connection is to be closed.
func (p *peer) handle(line string) bool {
	command, rest, _ := strings.Cut(line, " ")
	switch command {
	case "PING":
		p.write("PONG\n")
	case "SPONG":
		p.ponged++
	case "!silent":
		p.silent = true
	case "!late":
		milliseconds, text := number(rest)
		if !p.wait(milliseconds) {
			return false
		}
		p.write(echo(text))
	case "!split":
		milliseconds, text := number(rest)
		for _, b := range []byte(echo(text)) {
			p.write(string([]byte{b}))
			if !p.wait(milliseconds) {
				return false
			}
		}
	case "!half":
		p.write(echo(rest)[:len(echo(rest))/2])
		return false
	case "!double":
		p.write(echo(rest) + echo(rest))
	case "!bye":
		p.write(echo(rest))
		return false
	case "!drop":
		return false
	case "!reset":
		p.conn.SetLinger(0)
		return false
	case "!stray":
		milliseconds, _ := number(rest)
		p.write("OK\n")
		p.later(milliseconds, func() { p.write("?") })
	case "!strayfin":
		milliseconds, _ := number(rest)
		p.write("OK\n")
		p.later(milliseconds, func() {
			p.write("?")
			p.close()
		})
	case "!garbage":
		if rest == "http" {
			p.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		} else {
			// Alert, TLS 1.2, 2 bytes: fatal, protocol_version.
			p.write("\x15\x03\x03\x00\x02\x02\x46")
		}
	case "!long":
		length, _ := number(rest)
		p.write(strings.Repeat("x", length) + "\n")
	case "!deaf":
		<-p.gone
		return false
	case "!ping":
		milliseconds, _ := number(rest)
		if milliseconds == 0 {
			p.write("SPING\nOK\n")
		} else {
			p.write("OK\n")
			p.later(milliseconds, func() { p.write("SPING\n") })
		}
	case "!ponged":
		p.write(fmt.Sprintf("Ponged: %d\n", p.ponged))
	default:
		p.write(echo(line))
	}
	return true
}

func echo(text string) string {
	return "Echo: " + text + "\n"
}

// number takes a leading number off a command's arguments; 0 when there is none.
func number(arguments string) (int, string) {
	first, rest, _ := strings.Cut(arguments, " ")
	value, _ := strconv.Atoi(first)
	return value, rest
}

func (s *server) control(conn *net.TCPConn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		fmt.Fprintln(conn, s.command(strings.TrimSpace(lines.Text())))
	}
}

func (s *server) command(line string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch command, rest, _ := strings.Cut(line, " "); command {
	case "PING":
		return "PONG"
	case "count":
		return fmt.Sprintf("open=%d total=%d", len(s.open), s.total)
	case "full":
		s.full = rest == "on"
		return "OK"
	case "mute":
		s.mute = rest == "on"
		return "OK"
	case "idle":
		milliseconds, _ := number(rest)
		s.idle = time.Duration(milliseconds) * time.Millisecond
		for p := range s.open {
			p.watchIdle()
		}
		return "OK"
	case "behave":
		s.full, s.mute, s.idle = false, false, 0
		for p := range s.open {
			p.watchIdle()
		}
		return "OK"
	case "dropall":
		// close() takes the lock that is held here.
		for p := range s.open {
			go p.close()
		}
		return "OK"
	}
	return "unknown command: " + line
}
