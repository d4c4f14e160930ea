// Inside says what a program finds in its image.
package main

import (
	"fmt"
	"os"
	"os/user"
	"time"
)

func main() {
	fmt.Println("argv", os.Args)
	fmt.Println("path", os.Getenv("PATH"))
	for _, dir := range []string{"/tmp", "/run", "/var", "/home"} {
		st, err := os.Stat(dir)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(dir, st.Mode())
	}
	_, err := time.LoadLocation("Europe/Berlin")
	fmt.Println("zone", err)
	if u, err := user.LookupId("65534"); err != nil {
		fmt.Println(err)
	} else {
		fmt.Println("user", u.Username)
	}
	certs, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	fmt.Println("certificates", len(certs) > 0, err)
	if len(os.Args) > 1 {
		data, err := os.ReadFile(os.Args[1])
		fmt.Printf("read %q %v\n", data, err)
	}
}
