/* Records the connection manager's private data of Linux's NVMe/RDMA host and target.
 * cm listen ADDR PORT FILE       first request's private data, then rejects it
 * cm connect ADDR PORT HEX FILE  sends HEX as private data, records that of the reply or reject
 */
#include <arpa/inet.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rdma_event_channel *channel;

static struct rdma_cm_event *next_event(void)
{
	struct rdma_cm_event *event;
	if (rdma_get_cm_event(channel, &event)) {
		perror("rdma_get_cm_event");
		exit(1);
	}
	fprintf(stderr, "%s status %d, %d bytes\n", rdma_event_str(event->event), event->status,
		event->param.conn.private_data_len);
	return event;
}

static void record(const char *path, const struct rdma_cm_event *event)
{
	FILE *file = fopen(path, "wb");
	if (!file) {
		perror(path);
		exit(1);
	}
	fwrite(event->param.conn.private_data, 1, event->param.conn.private_data_len, file);
	fclose(file);
}

static void expect(enum rdma_cm_event_type want)
{
	struct rdma_cm_event *event = next_event();
	int wrong = event->event != want;
	rdma_ack_cm_event(event);
	if (wrong)
		exit(1);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct rdma_cm_id *id;
	struct rdma_cm_event *event;

	if (argc < 5)
		return 2;
	inet_pton(AF_INET, argv[2], &address.sin_addr);
	address.sin_port = htons(atoi(argv[3]));
	channel = rdma_create_event_channel();
	if (!channel || rdma_create_id(channel, &id, NULL, RDMA_PS_TCP)) {
		perror("rdma_create_id");
		return 1;
	}
	if (!strcmp(argv[1], "listen")) {
		if (rdma_bind_addr(id, (struct sockaddr *)&address) || rdma_listen(id, 1)) {
			perror("rdma_listen");
			return 1;
		}
		event = next_event();
		record(argv[4], event);
		unsigned char refusal[4] = { 0, 0, 6, 0 };
		rdma_reject(event->id, refusal, sizeof(refusal));
		rdma_ack_cm_event(event);
		return 0;
	}

	unsigned char data[64];
	size_t length = 0;
	for (const char *hex = argv[4]; hex[0] && hex[1] && length < sizeof(data); hex += 2)
		sscanf(hex, "%2hhx", &data[length++]);
	rdma_resolve_addr(id, NULL, (struct sockaddr *)&address, 2000);
	expect(RDMA_CM_EVENT_ADDR_RESOLVED);
	rdma_resolve_route(id, 2000);
	expect(RDMA_CM_EVENT_ROUTE_RESOLVED);
	struct ibv_qp_init_attr qp = { .qp_type = IBV_QPT_RC };
	qp.cap.max_send_wr = qp.cap.max_recv_wr = 4;
	qp.cap.max_send_sge = qp.cap.max_recv_sge = 1;
	if (rdma_create_qp(id, NULL, &qp)) {
		perror("rdma_create_qp");
		return 1;
	}
	struct rdma_conn_param param = {
		.private_data = data, .private_data_len = length, .responder_resources = 1,
		.initiator_depth = 1, .retry_count = 6, .rnr_retry_count = 6,
	};
	rdma_connect(id, &param);
	event = next_event();
	record(argv[5], event);
	rdma_ack_cm_event(event);
	rdma_disconnect(id);
	return 0;
}
