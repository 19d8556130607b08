output "settings" {
  description = "What every role has in its environment."
  value = {
    RUNFEED_BUCKET         = "s3://${var.public_bucket}"
    RUNFEED_PRIVATE_BUCKET = "s3://${var.private_bucket}"
    RUNFEED_INBOX_QUEUE    = aws_sqs_queue.inbox.url
    AWS_REGION             = aws_s3_bucket.this["public"].region
  }
}

output "role_arns" {
  description = "The IAM role that a process of each of our roles takes."
  value       = { for name, role in aws_iam_role.role : name => role.arn }
}
