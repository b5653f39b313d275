module pulsepool/servers

go 1.19
