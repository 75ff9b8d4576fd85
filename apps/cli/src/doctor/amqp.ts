/** What the check of RabbitMQ uses of its client, with names of its own where it is loaded late; see aws/sdk/ec2.ts. */
export { connect } from 'amqplib';
