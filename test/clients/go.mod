module github.com/portbook/portbook/test/clients

go 1.26.0
