// Echo answers what it is sent, over several listeners at once. A listener whose flag is not given is not opened.
//
//	-line ADDR   lines: "text\n" is answered "Echo: text\n", and the line "PING" is answered "PONG"
//	-raw ADDR    bytes: what comes in goes out
//	-frames ADDR frames: a 4-byte big-endian length, then as many bytes, both sent back
//	-unix PATH   lines, over a Unix socket
//	-tls ADDR    lines under TLS, with -cert and -key
//	-mtls ADDR   lines under TLS, for clients whose certificate -client-ca has signed
//
// All of them are as slow as -delay MS says: so many milliseconds pass before each reply to a line or a frame, one
// reply after the other on each connection. Lines to change that and to look at it are answered at once:
//
//	"!delay MS"  a new delay, for every connection of the process; answered "delay=MS"
//	"!count"     answered with the number of lines that were echoed so far: neither PING nor any line named here
//	"WHOAMI"     answered with what -name says; without -name it is a line like any other
//
// Under TLS the line "WHO" is answered with what the server saw of its client: "sni=localhost alpn=echo/1
// client=name", "-" for what there was not. ALPN is offered as "echo/1".
//
// It logs one line, "ready", when all listeners are open, and ends on SIGTERM.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Frames longer than this end the connection: a peer that speaks another protocol would otherwise be
// given gigabytes.
const maxFrame = 64 << 20

var (
	// name is set before the first connection, and then only read.
	name string
	// delay is in milliseconds.
	delay atomic.Int64
	// echoed counts the lines that were echoed.
	echoed atomic.Int64
)

func main() {
	line := flag.String("line", "", "address of the line echo")
	raw := flag.String("raw", "", "address of the raw echo")
	frames := flag.String("frames", "", "address of the length-prefixed echo")
	unix := flag.String("unix", "", "path of the Unix socket of the line echo")
	tlsAddress := flag.String("tls", "", "address of the line echo under TLS")
	mtlsAddress := flag.String("mtls", "", "address of the line echo under mutual TLS")
	cert := flag.String("cert", "", "the server's certificate, PEM")
	key := flag.String("key", "", "the server's private key, PEM")
	clientCA := flag.String("client-ca", "", "the CA of the clients' certificates, PEM")
	service := flag.Int64("delay", 0, "milliseconds before each reply")
	flag.StringVar(&name, "name", "", "the answer to WHOAMI")
	flag.Parse()
	delay.Store(*service)

	serve("tcp", *line, nil, echoLines)
	serve("tcp", *raw, nil, echoBytes)
	serve("tcp", *frames, nil, echoFrames)
	serve("unix", *unix, nil, echoLines)
	if *tlsAddress != "" || *mtlsAddress != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		check(err)
		config := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"echo/1"}}
		serve("tcp", *tlsAddress, config, echoLines)
		if *mtlsAddress != "" {
			pem, err := os.ReadFile(*clientCA)
			check(err)
			mutual := config.Clone()
			mutual.ClientAuth = tls.RequireAndVerifyClientCert
			mutual.ClientCAs = x509.NewCertPool()
			mutual.ClientCAs.AppendCertsFromPEM(pem)
			serve("tcp", *mtlsAddress, mutual, echoLines)
		}
	}
	log.SetFlags(0)
	log.Print("ready")

	// As process 1 of a container it has no default action for SIGTERM.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func serve(network, address string, config *tls.Config, handle func(net.Conn)) {
	if address == "" {
		return
	}
	if network == "unix" {
		// A killed server leaves its socket file.
		os.Remove(address)
	}
	listener, err := net.Listen(network, address)
	check(err)
	if network == "unix" {
		// Clients may be other users, outside the container.
		check(os.Chmod(address, 0o666))
	}
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			check(err)
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
}

func echoLines(conn net.Conn) {
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriterSize(conn, 64<<10)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			out.Flush()
			return
		}
		line = strings.TrimRight(line, "\r\n")
		secure, isTLS := conn.(*tls.Conn)
		switch {
		case line == "PING":
			work(out)
			out.WriteString("PONG\n")
		case line == "WHO" && isTLS:
			out.WriteString(who(secure.ConnectionState()))
		case line == "WHOAMI" && name != "":
			out.WriteString(name + "\n")
		case line == "!count":
			out.WriteString(strconv.FormatInt(echoed.Load(), 10) + "\n")
		case strings.HasPrefix(line, "!delay "):
			out.WriteString(setDelay(line[len("!delay "):]) + "\n")
		default:
			work(out)
			out.WriteString("Echo: " + line + "\n")
			echoed.Add(1)
		}
		// Replies to lines that came together leave together.
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

// work lets the delay pass. Earlier replies leave first: they are not to wait for this one.
func work(out *bufio.Writer) {
	if milliseconds := delay.Load(); milliseconds > 0 {
		out.Flush()
		time.Sleep(time.Duration(milliseconds) * time.Millisecond)
	}
}

func setDelay(text string) string {
	milliseconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || milliseconds < 0 {
		return "not a delay in milliseconds: " + text
	}
	delay.Store(milliseconds)
	return fmt.Sprintf("delay=%d", milliseconds)
}

func who(state tls.ConnectionState) string {
	client := ""
	if len(state.PeerCertificates) > 0 {
		client = state.PeerCertificates[0].Subject.CommonName
	}
	return fmt.Sprintf("sni=%s alpn=%s client=%s\n",
		dash(state.ServerName), dash(state.NegotiatedProtocol), dash(client))
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func echoBytes(conn net.Conn) {
	io.Copy(conn, conn)
}

func echoFrames(conn net.Conn) {
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriterSize(conn, 64<<10)
	defer out.Flush()
	var head [4]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		length := binary.BigEndian.Uint32(head[:])
		if length > maxFrame {
			return
		}
		// The whole frame is read first: echoing while reading would block both sides once buffers are full.
		frame := make([]byte, length)
		if _, err := io.ReadFull(in, frame); err != nil {
			return
		}
		work(out)
		out.Write(head[:])
		out.Write(frame)
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}
