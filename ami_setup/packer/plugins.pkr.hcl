# Apart from the template, because Debian's Packer 1.6.6, which has the builder built in and which the
# tests use, does not know this block. `packer init` gets the plugin.
packer {
  required_plugins {
    amazon = {
      version = ">= 1.2.8, < 2.0.0"
      source  = "github.com/hashicorp/amazon"
    }
  }
}
