# The bpcp machine image. From the top of a git checkout:
#
#   packer init ami_setup/packer
#   packer build -var region=eu-central-1 -var 'ssh_cidrs=["<your address>/32"]' ami_setup/packer
#
# All that is done to the machine is in ami_setup/steps/, which bake.sh and `make ami-test` run too.
# No key is in here: Packer takes AWS's from the environment, and makes one for ssh that ends with it.

variable "region" {
  type        = string
  description = "The region that the image is made in."
}

variable "ssh_cidrs" {
  type        = list(string)
  description = "Where Packer connects from: the only addresses that reach the instance."
}

variable "base" {
  type        = string
  default     = "debian-12"
  description = "The base image: debian-12 or ubuntu-22.04."
  validation {
    condition     = contains(["debian-12", "ubuntu-22.04"], var.base)
    error_message = "The base is debian-12 or ubuntu-22.04."
  }
}

variable "arch" {
  type        = string
  default     = "amd64"
  description = "The architecture: amd64 or arm64."
  validation {
    condition     = contains(["amd64", "arm64"], var.arch)
    error_message = "The architecture is amd64 or arm64."
  }
}

variable "instance_type" {
  type        = string
  default     = ""
  description = "The instance to build on; c6i.xlarge, or c7g.xlarge for arm64."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "A subnet that Packer reaches and that reaches the internet; the default VPC's if empty."
}

variable "volume_gb" {
  type        = number
  default     = 30
  description = "Size of the root volume."
}

variable "kms_key_id" {
  type        = string
  default     = ""
  description = "The key that the image is encrypted with; the account's for EBS if empty."
}

variable "commit" {
  type        = string
  default     = "HEAD"
  description = "The commit to build."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "More tags for all that is made."
}

locals {
  bases = {
    "debian-12"    = { owner = "136693071363", name = "debian-12-${var.arch}-*", user = "admin" }
    "ubuntu-22.04" = { owner = "099720109477", name = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-${var.arch}-server-*", user = "ubuntu" }
  }
  name = "bpcp-${var.base}-${var.arch}-${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  type = var.instance_type != "" ? var.instance_type : (var.arch == "arm64" ? "c7g.xlarge" : "c6i.xlarge")
  tags = merge(var.tags, { "Name" = local.name, "bpcp-base" = var.base })
}

source "amazon-ebs" "bpcp" {
  region    = var.region
  subnet_id = var.subnet_id

  source_ami_filter {
    owners      = [local.bases[var.base].owner]
    most_recent = true
    filters = {
      "name"                = local.bases[var.base].name
      "root-device-type"    = "ebs"
      "virtualization-type" = "hvm"
    }
  }

  instance_type                         = local.type
  shutdown_behavior                     = "terminate"
  ssh_username                          = local.bases[var.base].user
  ssh_clear_authorized_keys             = true
  temporary_key_pair_type               = "ed25519" # newer than 1.6.6
  temporary_security_group_source_cidrs = var.ssh_cidrs

  # newer than 1.6.6 {
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  imds_support = "v2.0"
  # }

  launch_block_device_mappings {
    device_name           = var.base == "debian-12" ? "/dev/xvda" : "/dev/sda1"
    volume_type           = "gp3"
    volume_size           = var.volume_gb
    iops                  = 3000
    throughput            = 125
    delete_on_termination = true
    encrypted             = true
    kms_key_id            = var.kms_key_id
  }

  ami_name        = local.name
  ami_description = "bpcp (${var.commit}) on ${var.base}"
  encrypt_boot    = true
  kms_key_id      = var.kms_key_id
  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = local.tags
  run_volume_tags = local.tags
}

build {
  sources = ["source.amazon-ebs.bpcp"]

  provisioner "shell-local" {
    inline = [
      "cd '${path.root}/../..' && mkdir -p build",
      "git archive --format=tar.gz --output=build/bpcp.tar.gz '${var.commit}'",
    ]
  }

  provisioner "file" {
    source      = "${path.root}/../../build/bpcp.tar.gz"
    destination = "/tmp/bpcp.tar.gz"
    generated   = true
  }

  provisioner "shell" {
    inline = [
      "set -eu",
      "cloud-init status --wait || true",
      "sudo mkdir -p /opt/bpcp",
      "sudo tar --no-same-owner -C /opt/bpcp -xzf /tmp/bpcp.tar.gz",
      "commit=$(zcat /tmp/bpcp.tar.gz | head -c 4096 | grep -a -o -m 1 '[0-9a-f]\\{40\\}')",
      "sudo /opt/bpcp/ami_setup/build.sh --this-machine --commit \"$commit\" --base '${var.base}'",
    ]
  }
}
