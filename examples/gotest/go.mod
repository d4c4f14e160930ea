module example.com/gotest

go 1.26.0

require github.com/hasvc/gauntlet v0.0.0

replace github.com/hasvc/gauntlet => ../..
