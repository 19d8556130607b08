variable "public_bucket" {
  description = "Name of the bucket that everybody may read."
  type        = string
}

variable "private_bucket" {
  description = "Name of the bucket that holds tokens, markers and the inbox."
  type        = string
}

variable "queue" {
  description = "Name of the SQS queue that is told of objects in the inbox."
  type        = string
  default     = "runfeed-inbox"
}

variable "runners" {
  description = "Names of the runners that may drop files into inbox/<name>/ of the private bucket."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.runners : can(regex("^([a-z0-9]|[a-z0-9][a-z0-9._-]{0,62}[a-z0-9])$", name))])
    error_message = "A runner's name is 1 to 64 of a-z, 0-9, '.', '_', '-', starting and ending with a letter or digit."
  }
}

variable "trusted_service" {
  description = "The service whose machines or tasks take the roles."
  type        = string
  default     = "ec2.amazonaws.com"
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
}
